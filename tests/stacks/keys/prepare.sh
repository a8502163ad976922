# The folder that one volume is.
mkdir -p "$HAVRE_ROOT/pinned"
# A volume that is there before the project.
mkdir -p "$HAVRE_ROOT/lib/volumes/keys-external/data"
echo "kept by others" > "$HAVRE_ROOT/lib/volumes/keys-external/data/file"
# git keeps no other mode than that of a plain file.
chmod 0640 bound/file
