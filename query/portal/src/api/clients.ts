// The services, typed by the contract.

import { createClient } from "@connectrpc/connect";
import { ArtifactService } from "./gen/artifact_service_pb";
import { HealthService } from "./gen/health_service_pb";
import { LogService } from "./gen/log_service_pb";
import { ModelService } from "./gen/model_service_pb";
import { QueryService } from "./gen/query_service_pb";
import { RunService } from "./gen/run_service_pb";
import { transport } from "./transport";

export const query = createClient(QueryService, transport);
export const runs = createClient(RunService, transport);
export const artifacts = createClient(ArtifactService, transport);
export const models = createClient(ModelService, transport);
export const logs = createClient(LogService, transport);
export const health = createClient(HealthService, transport);
