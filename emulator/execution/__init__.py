"""How a job runs: a dispatcher claims it, a runner drives it, an executor has its videos predicted."""
