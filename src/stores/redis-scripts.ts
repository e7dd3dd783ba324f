/**
 * The Lua of shared rate limits. Each script is one step for everybody. Time is Redis' own (`TIME`), milliseconds.
 *
 * A window is one string, packed: `s` slots of {first, last, amount}, oldest first; `d` the debt at `a`; `n` the last
 * time seen, `k` what is added to the clock since it stepped back, so that a step neither locks out nor refills. The
 * arithmetic is that of `rates/window.ts`. Places at work are a sorted set: call id, and when its lease ends.
 * @module
 */
import { slotsPerWindow } from '../rates/window.ts'
import type { Script } from './redis.ts'

const shared = `
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function debt(w, now, max, span)
  return math.max(0, w.d - (now - w.a) * max / span)
end
-- @return the window and its time now; w.moved when the clock had stepped back
local function open(key, real, span)
  local raw = redis.call('GET', key)
  local w = raw and cmsgpack.unpack(raw) or { n = real, k = 0, d = 0, a = real, s = {} }
  local now = real + w.k
  if now < w.n then
    w.k = w.n - real
    now = w.n
    w.moved = 1
  end
  w.n = now
  local kept, total = {}, 0
  for _, slot in ipairs(w.s) do
    if slot[2] + span > now then
      kept[#kept + 1] = slot
      total = total + slot[3]
    end
  end
  w.s = kept
  return w, now, total
end
local function save(key, w, max, burst, span)
  w.moved = nil
  redis.call('SET', key, cmsgpack.pack(w), 'PX', math.ceil(span * (2 + burst / max)) + 1000)
end
`

/**
 * KEYS: one per want. ARGV: lease ms, member, then max, burst, window ms (0: a place at work) and amount of each want.
 * Reply: number of the want that refused (0: all taken), its wait, then slot, remaining and reset of each.
 */
export const takeScript: Script = {
  name: 'take',
  lua: `${shared}
local real = clock()
local lease, member = tonumber(ARGV[1]), ARGV[2]
local asked, refused, longest = {}, 0, 0
for i, key in ipairs(KEYS) do
  local at = i * 4 - 1
  local a = { max = tonumber(ARGV[at]), burst = tonumber(ARGV[at + 1]), span = tonumber(ARGV[at + 2]), amount = tonumber(ARGV[at + 3]) }
  asked[i] = a
  a.cap = a.max + a.burst
  local wait = 0
  if a.span == 0 then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', real)
    -- A lease that ends later than any can was written before the clock stepped back.
    for _, late in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. (real + lease), '+inf')) do
      redis.call('ZADD', key, 'XX', real + lease, late)
    end
    a.held = redis.call('ZCARD', key)
    if a.held + a.amount > a.cap then wait = 1000 end
  else
    a.w, a.now, a.total = open(key, real, a.span)
    local over = a.total + a.amount - a.cap
    for _, slot in ipairs(a.w.s) do
      if over <= 0 then break end
      over = over - slot[3]
      wait = slot[2] + a.span - a.now
    end
    if a.burst > 0 then
      local deep = debt(a.w, a.now, a.max, a.span) + a.amount - a.cap
      if deep > 0.000001 then wait = math.max(wait, deep * a.span / a.max) end
    end
  end
  if wait > longest then refused, longest = i, wait end
end
local reply = { refused, math.ceil(longest) }
for i, key in ipairs(KEYS) do
  local a = asked[i]
  local slot = 0
  if a.span == 0 then
    if refused == 0 then
      redis.call('ZADD', key, real + lease, member)
      redis.call('PEXPIRE', key, lease * 2)
      a.held = a.held + 1
    end
    reply[#reply + 1] = 0
    reply[#reply + 1] = math.max(0, a.cap - a.held)
    reply[#reply + 1] = 0
  else
    local w, now = a.w, a.now
    if refused == 0 then
      w.d = debt(w, now, a.max, a.span) + a.amount
      w.a = now
      a.total = a.total + a.amount
      local newest = w.s[#w.s]
      if newest and now - newest[1] < a.span / ${slotsPerWindow} then
        newest[2] = now
        newest[3] = newest[3] + a.amount
      else
        newest = { now, now, a.amount }
        w.s[#w.s + 1] = newest
      end
      slot = newest[1]
    end
    if refused == 0 or w.moved then save(key, w, a.max, a.burst, a.span) end
    local d = a.burst == 0 and 0 or debt(w, now, a.max, a.span)
    local last = a.total > 0 and w.s[#w.s] and w.s[#w.s][2] + a.span - now or 0
    reply[#reply + 1] = slot
    reply[#reply + 1] = math.max(0, math.floor(a.cap - math.max(a.total, d) + 0.000001))
    reply[#reply + 1] = math.ceil(math.max(last, d * a.span / a.max))
  end
end
return reply
`,
}

/** KEYS: what changes. ARGV: member, then max, burst, window ms (0: the place is given back), slot and delta of each. */
export const changeScript: Script = {
  name: 'change',
  lua: `${shared}
local real = clock()
for i, key in ipairs(KEYS) do
  local at = i * 5 - 3
  local max, burst, span = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local first, delta = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  if span == 0 then
    redis.call('ZREM', key, ARGV[1])
  elseif redis.call('EXISTS', key) == 1 then
    local w, now = open(key, real, span)
    w.d = math.max(0, debt(w, now, max, span) + delta)
    w.a = now
    for _, slot in ipairs(w.s) do
      if slot[1] == first then slot[3] = slot[3] + delta end
    end
    save(key, w, max, burst, span)
  end
end
return 0
`,
}

/** KEYS: sets of places at work. ARGV: lease ms, then the member in each. A set that was lost is there again. */
export const renewScript: Script = {
  name: 'renew',
  lua: `${shared}
local real, lease = clock(), tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, real + lease, ARGV[i + 1])
  redis.call('PEXPIRE', key, lease * 2)
end
return 0
`,
}
