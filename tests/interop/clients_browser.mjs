// Applications in Chromium on other origins: one that is listed in CORS_ALLOWED_ORIGINS logs in, reads
// and logs out; others can read nothing. Then: Swagger UI, on the origin of the service.

import assert from 'node:assert/strict';
import puppeteer from 'puppeteer-core';

const { API_URL, CHROMIUM, PAGE_PORT } = process.env;

// Runs in the page. Resolves to a reply as the application can read it, or to the error instead.
async function call(url, method, token, body) {
  const headers = { 'X-Request-Id': 'browser' };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers['Content-Type'] = 'application/json';
  try {
    const reply = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
    return { status: reply.status, body: await reply.json(), headers: Object.fromEntries(reply.headers) };
  } catch (error) {
    return { error: String(error) };
  }
}

// Returns the function that sends requests from a page at a URL.
async function application(browser, url) {
  const page = await browser.newPage();
  await page.goto(url);
  return (method, path, token, body) => page.evaluate(call, API_URL + path, method, token, body);
}

async function listedApplication(send, credentials) {
  const login = await send('POST', '/auth/login', null, credentials);
  assert.equal(login.status, 200);
  const token = login.body.access_token;
  assert.equal((await send('GET', '/protected/dashboard', token)).status, 200);
  assert.equal((await send('POST', '/auth/logout', token)).status, 200);

  const refused = await send('GET', '/protected/dashboard', token);
  assert.equal(refused.status, 401);
  assert.equal(refused.body.code, 'token_revoked');
  assert.equal(refused.headers['x-request-id'], 'browser');
  assert.match(refused.headers['www-authenticate'], /^Bearer error="invalid_token"/);
  assert.equal((await send('GET', '/nowhere')).body.code, 'not_found');
  for (const path of ['/', '/metrics', '/health/ready']) {
    assert.equal((await send('GET', path)).error, 'TypeError: Failed to fetch', path);
  }
}

async function unlistedApplication(send, credentials) {
  for (const [method, path, body] of [
    ['POST', '/auth/login', credentials],
    ['GET', '/protected/dashboard'],
    ['GET', '/.well-known/jwks.json'],
  ]) {
    assert.equal((await send(method, path, null, body)).error, 'TypeError: Failed to fetch', path);
  }
}

async function swaggerUi(browser) {
  const page = await browser.newPage();
  const problems = [];
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
  page.on('pageerror', (error) => problems.push(String(error)));
  await page.goto(`${API_URL}/docs`);
  const button = await page.waitForSelector('.btn.authorize');
  await button.click();
  const dialog = await page.waitForSelector('.dialog-ux .modal-ux-content');
  const text = await dialog.evaluate((element) => element.innerText);
  for (const part of ['access_token', 'POST /auth/login', 'client_token', '/oauth/token', 'client_secret']) {
    assert(text.includes(part), `${part} is not in: ${text}`);
  }
  await (await page.$('.close-modal')).click();

  // What the page shows can be executed as it is: after the login it has the token.
  for (const operation of ['register', 'login', 'me', 'dashboard', 'check']) {
    const block = await page.waitForSelector(`[id$="-${operation}"]`);
    const click = async (selector) => {
      await block.waitForSelector(selector);
      await block.$eval(selector, (element) => element.click());
    };
    await click('.opblock-summary-control');
    await click('.try-out__btn');
    await click('.execute');
    const status = await block.waitForSelector('.live-responses-table tbody .response-col_status');
    assert.match(await status.evaluate((element) => element.innerText), /^20[01]/, operation);
  }
  assert.equal(await page.evaluate(() => localStorage.length + sessionStorage.length), 0);
  assert.deepEqual(problems, []);
}

const credentials = { username: 'browser', password: 'testpass' };
await fetch(`${API_URL}/auth/register`, {
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify(credentials),
});
// Chromium refuses its sandbox to root.
const browser = await puppeteer.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
try {
  await listedApplication(await application(browser, `http://127.0.0.1:${PAGE_PORT}/`), credentials);
  console.log('the listed origin logged in, read the dashboard, logged out');
  await unlistedApplication(await application(browser, `http://localhost:${PAGE_PORT}/`), credentials);
  await unlistedApplication(await application(browser, 'data:text/html,'), credentials);
  console.log('other origins can read nothing');
  await swaggerUi(browser);
  console.log("Swagger UI's dialog names the ways to log in, and its examples work");
} finally {
  await browser.close();
}
