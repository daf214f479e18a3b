-- The shared rate limiter's one function: settle what a replica used of a subject, then grant.
--
-- One key holds all of one subject, so that one call decides over all of its limits, and so that
-- it lives in one slot of a cluster. Time is the server's own (one clock for all replicas); one that
-- is set back stands still until it is where it was. Levels leak: `level` is what is taken and has
-- not flowed back, `settled` the same with each use charged when it became known.

local UNLIMITED = 4e15
local DAY = 86400
local REMEMBERED = 600 * 1000000

-- Begin and end of the window of the calendar (UTC, weeks from Monday) around a second.
local function window_of(period, now)
  if period == 'total' then return 0, 0 end
  if period == 'month' then
    -- Days to a civil date: Howard Hinnant, "chrono-compatible low-level date algorithms".
    local days = math.floor(now / DAY) + 719468
    local era = math.floor(days / 146097)
    local doe = days - era * 146097
    local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
      - math.floor(doe / 146096)) / 365)
    local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
    local mp = math.floor((5 * doy + 2) / 153)
    local day = doy - math.floor((153 * mp + 2) / 5)
    local month = mp < 10 and mp + 3 or mp - 9
    local year = yoe + era * 400 + (month <= 2 and 1 or 0)
    local length = ({31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31})[month]
    if month == 2 and year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0) then length = 29 end
    local start = (math.floor(now / DAY) - day) * DAY
    return start, start + length * DAY
  end
  local length = ({hour = 3600, day = DAY, week = 7 * DAY})[period]
  local first = period == 'week' and 4 * DAY or 0
  local start = math.floor((now - first) / length) * length + first
  return start, start + length
end

local function micros(given)
  if given then return given end
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Let time pass: levels leak, replicas that fell silent lose what they held, windows end.
local function pass(state, ask, now)
  local elapsed = math.max(0, now - state.at)
  state.at = now
  for i, line in ipairs(ask.lines) do
    if line then
      local leak = elapsed * line[2] / line[3]
      state.level[i] = math.max(0, state.level[i] - leak)
      state.settled[i] = math.max(0, state.settled[i] - leak)
    end
  end
  local slots = 0
  for id, replica in pairs(state.replicas) do
    replica.left = replica.left - elapsed
    if replica.left <= 0 then
      replica.slots, replica.held = 0, {0, 0, 0, 0}
      -- Its number is remembered, so that a call which it repeats isn't counted twice.
      if replica.left <= -REMEMBERED then state.replicas[id] = nil end
    end
    if id ~= ask.id then slots = slots + replica.slots end
  end
  if ask.budget then
    local start, stop = window_of(ask.budget[2], now / 1000000)
    if start > state.window or ask.budget[2] ~= state.period then
      state.window, state.period, state.spent = start, ask.budget[2], 0
    end
    state.stop = stop
  end
  return slots
end

-- Charge what was used; give back what was reserved and not used, but nothing that time has given
-- back already: the level stays above what the uses and the reservations held would have made it.
-- Of a replica that the store knows nothing of, the reservations were lost with it: uses are debts.
local function settle(state, ask, me, is_new)
  local function said(i)
    local done = ask.done[i]
    if is_new then return 0, 0, done[2] + done[3] end
    return done[1], done[2], done[3]
  end
  for i, line in ipairs(ask.lines) do
    local reserved, used, debt = said(i)
    me.held[i] = math.max(0, me.held[i] - reserved)
    if line then
      local held = 0
      for _, replica in pairs(state.replicas) do held = held + replica.held[i] end
      state.settled[i] = state.settled[i] + used + debt
      local level = state.level[i] + debt
      if used < reserved then
        local floor = math.max(level - (reserved - used), state.settled[i] + held)
        level = math.min(level, floor)
      end
      state.level[i] = level
    end
  end
  local reserved, used, debt = said(5)
  if ask.window == state.window then state.spent = state.spent + used - reserved end
  state.spent = math.max(0, state.spent + debt)
end

local function room(state, ask, slots)
  local rooms = {}
  for i, line in ipairs(ask.lines) do
    rooms[i] = line and line[1] - state.level[i] or UNLIMITED
  end
  rooms[5] = UNLIMITED
  if ask.budget and ask.budget[3] then rooms[5] = ask.budget[1] - state.spent end
  rooms[6] = ask.slots and ask.slots - slots or UNLIMITED
  return rooms
end

local function take(state, me, rooms, costs)
  for i = 1, 4 do
    rooms[i] = rooms[i] - costs[i]
    state.level[i] = state.level[i] + costs[i]
    me.held[i] = me.held[i] + costs[i]
  end
  rooms[5] = rooms[5] - costs[5]
  state.spent = state.spent + costs[5]
  rooms[6] = rooms[6] - costs[6]
  me.slots = me.slots + costs[6]
end

-- Each who waits gets all or nothing, in their order; a share in advance only if none was refused.
local function grant(state, ask, me, rooms)
  local verdicts, refused = {}, false
  for n, costs in ipairs(ask.waiting) do
    local fits = true
    for i = 1, 6 do fits = fits and costs[i] <= rooms[i] end
    if fits then take(state, me, rooms, costs) else refused = true end
    verdicts[n] = fits
  end
  local share = {0, 0, 0, 0, 0, 0}
  if not refused then
    for i = 1, 6 do share[i] = math.max(0, math.min(ask.want[i], math.floor(rooms[i]))) end
    take(state, me, rooms, share)
  end
  return verdicts, share
end

local function lasting(state, ask)
  local longest = 0
  for i, line in ipairs(ask.lines) do
    if line then longest = math.max(longest, state.level[i] * line[3] / line[2]) end
  end
  for _, replica in pairs(state.replicas) do longest = math.max(longest, replica.left) end
  if ask.budget and state.spent > 0 then
    if state.stop == 0 then return nil end
    longest = math.max(longest, state.stop * 1000000 - state.at)
  end
  return math.ceil(longest / 1000) + 60000
end

local function exchange(keys, args)
  local ask = cmsgpack.unpack(args[1])
  local now = micros(ask.now)
  local packed = redis.call('GET', keys[1])
  local state = packed and cmsgpack.unpack(packed) or {
    at = now, level = {0, 0, 0, 0}, settled = {0, 0, 0, 0}, replicas = {}, spent = 0, window = -1,
  }
  local known = state.replicas[ask.id]
  if known and known.number == ask.number then return known.answer end
  local slots = pass(state, ask, now)
  local is_new = state.replicas[ask.id] == nil
  local me = state.replicas[ask.id] or {held = {0, 0, 0, 0}}
  state.replicas[ask.id] = me
  me.number, me.left, me.slots = ask.number, ask.lease, ask.open
  settle(state, ask, me, is_new)
  local rooms = room(state, ask, slots + me.slots)
  local verdicts, share = grant(state, ask, me, rooms)
  me.answer = cmsgpack.pack({
    number = ask.number, is_new = is_new, verdicts = verdicts, share = share, level = state.level, spent = state.spent,
    window = state.window, left = ask.budget and state.stop > 0 and state.stop * 1000000 - now or -1,
    slots = slots + me.slots,
  })
  if ask.leaves then state.replicas[ask.id] = nil end
  local lasts = lasting(state, ask)
  if lasts then
    redis.call('SET', keys[1], cmsgpack.pack(state), 'PX', string.format('%.0f', lasts))
  else
    redis.call('SET', keys[1], cmsgpack.pack(state))
  end
  return me.answer
end

-- How many replicas were heard of lately; being one is said by calling.
local function gather(keys, args)
  local time = redis.call('TIME')
  local now = tonumber(time[1])
  redis.call('ZADD', keys[1], now, args[1])
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', now - tonumber(args[2]))
  redis.call('EXPIRE', keys[1], 3600)
  return redis.call('ZCARD', keys[1])
end

redis.register_function('exchange_HASH', exchange)
redis.register_function('gather_HASH', gather)
