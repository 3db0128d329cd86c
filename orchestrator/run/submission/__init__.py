"""What of a folder goes to a cluster with a job, and what stays: the folder's own rules, links, secrets."""
