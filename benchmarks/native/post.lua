-- wrk -s post.lua URL -- REQUEST-BODY 'name: value' ...
-- The request is made once, before the run; no Lua runs while it lasts.

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  file:close()
  for i = 2, #args do
    local name, value = args[i]:match("^([^:]+): (.*)$")
    wrk.headers[name] = value
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  print(string.format(
    'JSON {"done": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f, "failed": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
