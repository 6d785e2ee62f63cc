// The page keeps the latest access token in its memory: a token or a secret in the browser's storage
// would outlive the tab.
function useAccessToken(reply) {
  const isLogin = /\/auth\/(login|refresh)$/.test(reply.url);
  if (isLogin && reply.ok) {
    page.preauthorizeApiKey('access_token', JSON.parse(reply.text).access_token);
  }
  return reply;
}

// At a 401 for HTTP Basic the browser would ask for a password, and hide the reply.
function withoutPrompt(request) {
  request.credentials = 'omit';
  return request;
}

const colors = matchMedia('(prefers-color-scheme: dark)');
const setColors = () => document.documentElement.classList.toggle('dark-mode', colors.matches);
colors.addEventListener('change', setColors);
setColors();

const page = SwaggerUIBundle({
  url: 'openapi.json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  displayOperationId: true,
  displayRequestDuration: true,
  requestInterceptor: withoutPrompt,
  responseInterceptor: useAccessToken,
});
