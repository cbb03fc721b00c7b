"""Looks after the data of a server: checks it, copies it, removes what is old. No server has to run."""
