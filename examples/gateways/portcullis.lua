-- The action of haproxy.cfg: `http-request lua.portcullis PERMISSIONS` asks the service whether a
-- request may pass. If it may, sets the identity headers; otherwise it answers the request.

local URL = "http://127.0.0.1:5000/auth/check"
-- Of each of four tries.
local TIMEOUT_MS = 500

-- Headers of a refusal that the client gets.
local PASSED_ON = {["content-type"] = true, ["www-authenticate"] = true, ["retry-after"] = true}

local function refuse(txn, status, headers, body)
    local reply = txn:reply{status = status, body = body}
    for name, values in pairs(headers or {}) do
        if PASSED_ON[name] then
            reply:add_header(name, values[0])
        end
    end
    txn:done(reply)
end

core.register_action("portcullis", {"http-req"}, function(txn, permissions)
    local headers = {["x-auth-require"] = {permissions}}
    local authorization = txn.http:req_get_headers()["authorization"]
    if authorization then
        headers["authorization"] = {authorization[0]}
    end

    local verdict = core.httpclient():get{url = URL, headers = headers, timeout = TIMEOUT_MS}

    if not verdict or verdict.status == 0 then
        return refuse(txn, 503)
    elseif verdict.status ~= 200 then
        return refuse(txn, verdict.status, verdict.headers, verdict.body)
    end
    for name, values in pairs(verdict.headers) do
        if name:find("^x%-auth%-") then
            txn.http:req_set_header(name, values[0])
        end
    end
end, 1)
