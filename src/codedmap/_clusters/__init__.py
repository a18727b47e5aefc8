"""What stands behind the door `plan_cluster`: the cluster as data, what a selection comes to, and the climb."""
