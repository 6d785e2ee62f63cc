-- Requests of wrk: `wrk … -s load.lua URL -- KIND FILE [COLLECTED]`. FILE contains one token per line.
-- KIND is one of:
--
--     check       a request with each token in turn, repeatedly
--     sample      a request with a random token, repeatedly
--     introspect  an introspection of each token in turn, repeatedly; the first line contains the
--                 credentials of the client for HTTP Basic
--     login       a login with the credentials in FILE
--     logout      a logout with each token in turn
--     refresh     an exchange of each refresh token in turn, then of its successors; the access tokens
--                 are appended to the file COLLECTED, if it is given

-- Requests are built by hand: this script takes processor time from the service that it measures.

local kind, head, collected = nil, nil, nil
local tokens, first, last = {}, 1, 0
-- Requests that are built once: with half a million tokens, there is no room for both.
local requests, latest = {}, 0

local function put(token)
   last = last + 1
   tokens[last] = token
end

local function take()
   local token = tokens[first]
   tokens[first], first = nil, first + 1
   return token or "no token left"
end

local function with_token(method, token)
   return method .. head .. "Authorization: Bearer " .. token .. "\r\n\r\n"
end

local function with_body(body)
   return "POST" .. head .. "Content-Type: application/json\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end

local function with_form(basic, form)
   return "POST" .. head .. "Authorization: Basic " .. basic .. "\r\nContent-Type: application/x-www-form-urlencoded\r\n"
      .. "Content-Length: " .. #form .. "\r\n\r\n" .. form
end

function init(arguments)
   kind = arguments[1]
   head = " " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\n"
   collected = arguments[3] and io.open(arguments[3], "a")
   if kind ~= "refresh" then response = nil end
   math.randomseed(os.time())
   local lines = io.lines(arguments[2])
   local basic = kind == "introspect" and lines()
   for line in lines do
      if kind == "check" or kind == "sample" then
         requests[#requests + 1] = with_token("GET", line)
      elseif kind == "introspect" then
         requests[#requests + 1] = with_form(basic, "token=" .. line)
      else
         put(line)
      end
   end
end

function request()
   if kind == "sample" then
      return requests[math.random(#requests)]
   elseif kind == "check" or kind == "introspect" then
      latest = latest % #requests + 1
      return requests[latest]
   elseif kind == "login" then
      return with_body(tokens[1])
   elseif kind == "logout" then
      return with_token("POST", take())
   else
      return with_body('{"refresh_token":"' .. take() .. '"}')
   end
end

local function value(body, name)
   local _, before = body:find('"' .. name .. '":"', 1, true)
   return body:sub(before + 1, body:find('"', before + 1, true) - 1)
end

function response(status, headers, body)
   put(value(body, "refresh_token"))
   if collected then collected:write(value(body, "access_token"), "\n") end
end

function done(summary)
   io.write(string.format(
      '\n{"seconds": %f, "requests": %d, "failed": %d}\n', summary.duration / 1e6, summary.requests,
      summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout))
end
