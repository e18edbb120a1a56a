# SPDX-License-Identifier: Apache-2.0
# What scripts/run and scripts/test share; sourced by them, from the root of the tree.

# as_root COMMAND...: with sudo only where the caller isn't root already.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# configure FOLDER OPTION...: sets the build folder up once; an existing one keeps its settings.
configure() {
    local folder=$1
    shift
    [ -f "$folder/build.ninja" ] || meson setup "$folder" "$@"
}

# give_back FOLDER...: build folders belong to whoever owns the tree, even when root made them.
give_back() {
    if [ "$(id -u)" -eq 0 ] && [ "$(stat -c %u .)" -ne 0 ]; then
        chown -R --reference=. "$@"
    fi
}
