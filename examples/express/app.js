// An orders API. Each user sees the orders of their own.

import express from 'express'
import { Verifier } from 'portcullis-verifier'
import { requireToken } from 'portcullis-verifier/express'

const {
  PORTCULLIS_ISSUER,
  PORTCULLIS_URL,
  PORTCULLIS_CLIENT_ID,
  PORTCULLIS_CLIENT_SECRET,
  PORT = '8001',
} = process.env

const verifier = new Verifier({
  issuer: PORTCULLIS_ISSUER,
  audience: 'orders',
  clientId: PORTCULLIS_CLIENT_ID,
  clientSecret: PORTCULLIS_CLIENT_SECRET,
  url: PORTCULLIS_URL,
})

// By `sub`: a username can change, and can belong to another account later.
const orders = new Map()

const app = express()
app.use(express.json())

app.get('/health', (request, response) => {
  response.json({ staleness: verifier.staleness })
})

// For a permission as well: requireToken(verifier, 'orders:write').
app.use('/orders', requireToken(verifier))

app.get('/orders', (request, response) => {
  response.json(orders.get(request.claims.sub) ?? [])
})

app.post('/orders', (request, response) => {
  const { sub } = request.claims
  const order = { item: String(request.body?.item) }
  orders.set(sub, [...(orders.get(sub) ?? []), order])
  response.status(201).json(order)
})

await verifier.waitUntilReady(30)
const server = app.listen(Number(PORT), '127.0.0.1')

process.once('SIGTERM', async () => {
  server.close()
  await verifier.close()
})
