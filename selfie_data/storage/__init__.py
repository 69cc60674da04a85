"""Where bytes lie: folders of this machine, buckets, web servers; one small protocol for the three."""
