"""`pypmi export`: the other side's configuration, written from fleet.yaml."""
