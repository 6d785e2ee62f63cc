// Discovers the service, then gets, introspects and revokes a token with oauth4webapi, which checks
// each reply against the RFCs.

import assert from 'node:assert/strict'
import * as oauth from 'oauth4webapi'

const options = { [oauth.allowInsecureRequests]: true }
const issuer = new URL(process.env.API_URL)
const discovery = await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...options })
const server = await oauth.processDiscoveryResponse(issuer, discovery)
const client = { client_id: process.env.CLIENT_ID }
const secret = process.env.CLIENT_SECRET

for (const authenticate of [oauth.ClientSecretBasic(secret), oauth.ClientSecretPost(secret)]) {
  const granted = await oauth.processClientCredentialsResponse(
    server,
    client,
    await oauth.clientCredentialsGrantRequest(
      server, client, authenticate, { scope: 'tokens:introspect' }, options,
    ),
  )
  const introspect = async () => oauth.processIntrospectionResponse(
    server,
    client,
    await oauth.introspectionRequest(server, client, authenticate, granted.access_token, options),
  )
  const claims = await introspect()
  assert.equal(claims.active, true)
  assert.equal(claims.sub, client.client_id)
  await oauth.processRevocationResponse(
    await oauth.revocationRequest(server, client, authenticate, granted.access_token, options),
  )
  assert.deepEqual(await introspect(), { active: false })
}

console.log('discovered, got, introspected and revoked tokens, with both methods of authentication')
