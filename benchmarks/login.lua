-- Logs in one user after the other, so that no account makes anybody wait.
local number = 0

function request()
  number = number % 1000 + 1
  local body = string.format('{"username":"bench-%d","password":"correct horse battery"}', number)
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, body)
end
