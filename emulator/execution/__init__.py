"""How a job runs: a dispatcher claims it, a runner drives it, worker processes predict its videos."""
