-- What wrk sends: `wrk … -s load.lua URL -- KIND [FILE]`, where FILE has a token a line.
--
--     check FILE   a request with each token in turn, over and over
--     login FILE   credentials, which FILE holds
--     logout FILE  a logout with each token in turn
--     refresh FILE an exchange of each refresh token in turn, and then of what that brought

local kind, tokens, checks, first, last = nil, {}, {}, 1, 0

local function put(token)
   last = last + 1
   tokens[last] = token
end

function init(arguments)
   kind = arguments[1]
   for line in io.lines(arguments[2]) do
      put(line)
   end
   if kind ~= "refresh" then response = nil end
   if kind == "check" then
      for i, token in ipairs(tokens) do
         checks[i] = wrk.format("GET", nil, { Authorization = "Bearer " .. token })
      end
   end
end

local function take()
   local token = tokens[first]
   tokens[first], first = nil, first + 1
   return token or "none is left"
end

function request()
   if kind == "check" then
      first = first % #checks + 1
      return checks[first]
   end
   local json = { ["Content-Type"] = "application/json" }
   if kind == "login" then
      return wrk.format("POST", nil, json, tokens[1])
   elseif kind == "logout" then
      return wrk.format("POST", nil, { Authorization = "Bearer " .. take() })
   else
      return wrk.format("POST", nil, json, '{"refresh_token":"' .. take() .. '"}')
   end
end

function response(status, headers, body)
   put(body:match('"refresh_token":"([^"]*)"'))
end

function done(summary, latency)
   io.write(string.format(
      '\n{"seconds": %f, "requests": %d, "failed": %d, "p50_ms": %f, "p99_ms": %f}\n',
      summary.duration / 1e6, summary.requests,
      summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
