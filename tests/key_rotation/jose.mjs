// A gateway that verifies tokens with jose and answers 200 or 401.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
const require = createRequire(`${process.env.NODE_FOLDER}/`);
const { createRemoteJWKSet, jwtVerify } = await import(require.resolve('jose'));

const { PORT, JWKS_URI, ISSUER, AUDIENCE, MAX_AGE } = process.env;
// jose ignores Cache-Control, and its default is 600 s.
const keys = createRemoteJWKSet(new URL(JWKS_URI), { cacheMaxAge: MAX_AGE * 1000 });
const expected = { issuer: ISSUER, audience: AUDIENCE, algorithms: ['ES256'], typ: 'at+jwt' };

createServer(async (request, response) => {
  try {
    await jwtVerify(request.headers.authorization.replace('Bearer ', ''), keys, expected);
    response.end();
  } catch (error) {
    response.writeHead(401).end(String(error));
  }
}).listen(Number(PORT), '127.0.0.1');
