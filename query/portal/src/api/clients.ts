// The services, typed by the contract.

import { createClient } from "@connectrpc/connect";
import { QueryService } from "./gen/query_service_pb";
import { RunService } from "./gen/run_service_pb";
import { transport } from "./transport";

export const query = createClient(QueryService, transport);
export const runs = createClient(RunService, transport);
