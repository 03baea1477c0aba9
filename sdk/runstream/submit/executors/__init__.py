"""Places where submitted scripts run, behind one seam."""
