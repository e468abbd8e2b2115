"""What takes backups inside of the cluster, and tells their ages: programs of an image of their own.

Nothing here needs more than Python 3.11, rclone, etcdctl and etcdutl.
"""
