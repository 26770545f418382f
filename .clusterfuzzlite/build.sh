#!/bin/bash -eu
exec "$SRC/poolproof/fuzz/oss-fuzz/build.sh"
