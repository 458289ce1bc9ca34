"""The Lua scripts of the cache. Redis runs each of them atomically."""

import hashlib
from typing import NamedTuple, Self


class Script(NamedTuple):
    """A script with the SHA-1 digest that identifies it in Redis."""

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the script of `text`."""
        return cls(text, hashlib.sha1(text.encode()).hexdigest())  # noqa: S324 (an identifier that Redis defines)


MAX_BYTES = 16_384  # of an entry; an entry of this service has less than 2,000

# Return an entry, or false where nothing is. Remove a value that is too large or not a string, and return its length (0
# if it is not a string). To read 3 MB can take longer than REDIS_TIMEOUT, so the breaker would open at each read of one
# user. UNLINK frees the memory in the background.
_READ = f"""
local function read(key)
  local length = redis.pcall('STRLEN', key)
  if type(length) == 'number' and length <= {MAX_BYTES} then return redis.call('GET', key) end
  redis.call('UNLINK', key)
  return type(length) == 'number' and length or 0
end
"""

# KEYS; ARGV: a lease to set for missing keys (or an empty string), and its milliseconds.
# A Redis that accepts no writes (read-only, full, without its disk) refuses a script whose first line is `#!lua`. Its
# entries must not be used, because it misses the changes of other processes.
GET = Script.of(f"""#!lua
{_READ}
local found = {{}}
for number, key in ipairs(KEYS) do
  local entry = read(key)
  found[number] = entry
  if ARGV[1] ~= '' and type(entry) ~= 'string' then redis.call('SET', key, ARGV[1], 'PX', ARGV[2]) end
end
return found
""")

# KEYS; ARGV: milliseconds, a lease or an empty string, then a version and a value for each key.
# An entry is "<version> <time stored, by the server's clock> <value>". An entry without a value only invalidates older
# versions; a lease is an entry of version 0. A value of another program is overwritten. With a lease, an entry is set
# only while the lease is present: a flush may have removed a newer entry than the one that was read before. Returns the
# keys whose value `read` removed.
PUT = Script.of(f"""
{_READ}
local removed = {{}}
local now = redis.call('TIME')
local time = string.format('%d.%06d', now[1], now[2])
for number, key in ipairs(KEYS) do
  local version, value = ARGV[2 * number + 1], ARGV[2 * number + 2]
  local known = read(key)
  if type(known) == 'number' then table.insert(removed, key) end
  if type(known) ~= 'string' then known = '' end
  local known_version = tonumber(string.match(known, '^(%d+) ')) or 0
  local is_leased = ARGV[2] == '' or known_version > 0 or known == ARGV[2]
  if known_version <= tonumber(version) and is_leased then
    redis.call('SET', key, version .. ' ' .. time .. ' ' .. value, 'PX', ARGV[1])
  end
end
return removed
""")
