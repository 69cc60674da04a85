"""A node's cache of shards that lie in buckets or on web servers, shared by the processes of the node."""
