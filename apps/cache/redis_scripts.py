"""What the cache asks of Redis, in Lua: each script runs as one, with nothing between its commands."""

import hashlib
from typing import NamedTuple, Self


class Script(NamedTuple):
    """A script, and the name that Redis knows it by."""

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the script with this text."""
        return cls(text, hashlib.sha1(text.encode()).hexdigest())  # noqa: S324 (a name, and Redis chose it)


# KEYS; ARGV: a lease, which is put where nothing is, or nothing, and its milliseconds.
# A Redis that takes no writes (read-only, full, without its disk) refuses a script with a first line such as this one:
# what another process changed would be missing there, so nothing that it holds may be believed.
GET = Script.of("""#!lua
if #KEYS == 0 then return {} end
local found = redis.call('MGET', unpack(KEYS))
if ARGV[1] ~= '' then
  for number, entry in ipairs(found) do
    if not entry then redis.call('SET', KEYS[number], ARGV[1], 'PX', ARGV[2]) end
  end
end
return found
""")

# KEYS; ARGV: milliseconds, a lease or nothing, then a version and a value for each key.
# An entry is "<version> <time stored, by the server's clock> <value>". One without a value says only that nothing older
# is true; a lease is one of version 0. What is no text of ours is overwritten. With a lease, only where it still is:
# what a flush took away may have been newer than what was read before it.
PUT = Script.of("""
local now = redis.call('TIME')
local time = string.format('%d.%06d', now[1], now[2])
for number, key in ipairs(KEYS) do
  local version, value = ARGV[2 * number + 1], ARGV[2 * number + 2]
  local known = redis.pcall('GET', key)
  if type(known) ~= 'string' then known = '' end
  local known_version = tonumber(string.match(known, '^(%d+) ')) or 0
  local is_leased = ARGV[2] == '' or known_version > 0 or known == ARGV[2]
  if known_version <= tonumber(version) and is_leased then
    redis.call('SET', key, version .. ' ' .. time .. ' ' .. value, 'PX', ARGV[1])
  end
end
return 1
""")
