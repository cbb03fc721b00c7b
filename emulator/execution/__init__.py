"""How a job runs: a dispatcher claims it, a runner plans it, worker processes predict its videos."""
