// Logs in, reads and logs out with the types of openapi-typescript and the client openapi-fetch.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

const client = createClient<paths>({ baseUrl: process.env.API_URL });
const credentials = { username: "typescript", password: "testpass" };

await client.POST("/auth/register", { body: credentials });
const wrong = await client.POST("/auth/login", { body: { ...credentials, password: "wrong" } });
const refusal: components["schemas"]["Error"] | undefined = wrong.error;
assert.equal(refusal?.code, "invalid_credentials");

const login = await client.POST("/auth/login", { body: credentials });
assert(login.data);
const headers = { Authorization: `Bearer ${login.data.access_token}` };

const read = await client.GET("/protected/dashboard", { headers });
assert(read.data);
const logout = await client.POST("/auth/logout", { headers });
assert(logout.data);
const refused = await client.GET("/protected/dashboard", { headers });
assert.equal(refused.error?.code, "token_revoked");

console.log("logged in, read the dashboard, logged out");
