/** The real service, on SQLite, in a process of its own. */

import { execFile, spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

import { AUDIENCE, ISSUER, eventually } from './scripted_service.js'

const run = promisify(execFile)

export const BOUND = 2

export class Portcullis {
  #program
  #environment
  #folder
  #process

  static async start(program) {
    const service = new Portcullis()
    service.#program = program
    service.#folder = await mkdtemp(join(tmpdir(), 'portcullis-'))
    const port = await freePort()
    service.url = `http://127.0.0.1:${port}`
    service.#environment = {
      ...process.env,
      DATABASE_URL: `sqlite://${service.#folder}/portcullis.db`,
      PORT: port,
      PUBLIC_URL: ISSUER,
      JWT_AUDIENCE: AUDIENCE,
      REVOCATION_MAX_STALENESS: BOUND,
      REVOCATION_POLL_INTERVAL: 1,
      PBKDF2_ITERATIONS: 100_000,
    }
    await service.start()
    return service
  }

  async start() {
    const options = { cwd: this.#folder, env: this.#environment }
    this.#process = spawn(this.#program, [], options)
    const log = createWriteStream(join(this.#folder, 'log'), { flags: 'a' })
    this.#process.stdout.pipe(log)
    this.#process.stderr.pipe(log)
    const ready = () => fetch(`${this.url}/health/ready`).then(({ ok }) => ok, () => false)
    await eventually(ready, 30)
  }

  async kill() {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve))
    this.#process.kill('SIGKILL')
    await ended
  }

  async stop() {
    await this.kill()
    await rm(this.#folder, { recursive: true })
  }

  freeze() {
    this.#process.kill('SIGSTOP')
  }

  thaw() {
    this.#process.kill('SIGCONT')
  }

  async command(...args) {
    const options = { cwd: this.#folder, env: this.#environment }
    return (await run(this.#program, args, options)).stdout
  }

  async newClient(...permissions) {
    const options = permissions.flatMap((permission) => ['--permission', permission])
    const client = JSON.parse(await this.command('client', 'create', 'orders', ...options, '--json'))
    return { clientId: client.client_id, clientSecret: client.client_secret }
  }

  async logIn() {
    const credentials = { username: 'testuser', password: 'testpass' }
    await this.#post('register', credentials)
    return (await (await this.#post('login', credentials)).json()).access_token
  }

  async logOut(token) {
    const reply = await this.#post('logout', undefined, { Authorization: `Bearer ${token}` })
    if (!reply.ok) throw new Error(await reply.text())
  }

  #post(action, body, headers) {
    return fetch(`${this.url}/auth/${action}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: JSON.stringify(body),
    })
  }
}

async function freePort() {
  const probe = createServer()
  await new Promise((resolve) => probe.listen(0, '127.0.0.1', resolve))
  const { port } = probe.address()
  await new Promise((resolve) => probe.close(resolve))
  return port
}
