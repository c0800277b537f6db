#!/bin/sh
# The database of the shards, beside the one that the image makes. Once, when the volume is new.
set -eu
mariadb --user=root --password="$MARIADB_ROOT_PASSWORD" <<SQL
CREATE DATABASE IF NOT EXISTS tsp_one CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
GRANT ALL PRIVILEGES ON tsp_one.* TO '$MARIADB_USER'@'%';
SQL
