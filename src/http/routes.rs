//! The route table.

use actix_web::dev::HttpServiceFactory;
use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, PathConfig, QueryConfig, ServiceConfig, to};
use actix_web::{HttpResponse, Resource, Route, guard};

use super::compression::compress;
use super::cors::{convert_refusals, cors};
use super::error::ApiError;
use super::oauth_error::add_oauth_fields;
use super::route_metrics::RouteMetrics;
use super::{
    account, admin, admin_clients, admin_details, admin_keys, admin_roles, admin_sessions, audit,
    auth, check, dashboard, docs, introspect, metrics, openapi, probes, reset, revocations, revoke,
    sessions, token, well_known,
};

/// Selection of the routes of a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routes {
    /// Whether clients and gateways are served.
    pub(super) has_public: bool,
    /// Whether operators are: administration, documentation, probes and metrics.
    pub(super) has_management: bool,
    /// Whether the documentation is part of that.
    pub(super) has_docs: bool,
}

impl Routes {
    /// Configures the routes. Browser applications on the allowed origins can call those of
    /// [`Self::configure_open`], and read the errors of unknown paths.
    pub(super) fn configure(self, config: &mut ServiceConfig, allowed_origins: &[String]) {
        // First: the scope with CORS takes every path, and patterns are slower to match.
        self.configure_machines(config);
        let open = |config: &mut ServiceConfig| self.configure_open(config);
        if allowed_origins.is_empty() {
            config.configure(open);
        } else {
            let scope = web::scope("").configure(open).wrap(cors(allowed_origins));
            config.service(scope.wrap(from_fn(convert_refusals)));
        }
        config.app_data(Data::new(openapi::CachedDocument::default())).configure(configure_errors);
    }

    /// Configures the routes that browser applications may call, too.
    fn configure_open(self, config: &mut ServiceConfig) {
        if self.has_public {
            config
                .service(resource(
                    "/protected/dashboard",
                    [(Method::GET, to(dashboard::dashboard))],
                ))
                .configure(token_routes)
                .configure(account_routes);
        }
        if self.has_management {
            config.configure(admin_routes);
        }
        if self.has_management && self.has_docs {
            config.configure(documentation_routes);
        }
    }

    /// Configures the routes without CORS: those that only services and probes use.
    fn configure_machines(self, config: &mut ServiceConfig) {
        if self.has_public {
            config.configure(gateway_routes).configure(service_routes);
        }
        if self.has_management {
            config.configure(operator_routes);
        }
    }
}

/// Configures the routes for gateways. They have no CORS: to a gateway, the reply 200 to a preflight
/// would be a verdict.
fn gateway_routes(config: &mut ServiceConfig) {
    let exact = web::resource("/auth/check").app_data(RouteMetrics::new("/auth/check"));
    // A prefix, because a pattern would be a regular expression to run for every other path.
    let prefix = web::scope("/auth/check").app_data(RouteMetrics::new("/auth/check/{rest}"));
    config
        // Before the prefix, which matches this path, too, and whose handler ignores the query.
        .service(exact.route(to(check::check)))
        .service(prefix.default_service(to(check::check_path)));
}

/// Configures the routes that only services use, and the one that shows that the API responds.
fn service_routes(config: &mut ServiceConfig) {
    config
        .service(oauth_resource("/oauth/token", to(token::issue)))
        .service(oauth_resource("/oauth/introspect", to(introspect::introspect)))
        .service(resource("/revocations", [(Method::GET, to(revocations::follow))]))
        .service(resource("/", [(Method::GET, to(probes::root))]));
}

/// Configures the routes for the users of accounts.
fn account_routes(config: &mut ServiceConfig) {
    config
        .service(resource("/auth/register", [(Method::POST, to(auth::register))]))
        .service(resource("/auth/login", [(Method::POST, to(auth::login))]))
        .service(resource("/auth/refresh", [(Method::POST, to(auth::refresh))]))
        .service(resource("/auth/logout", [(Method::POST, to(auth::logout))]))
        .service(resource("/auth/logout-all", [(Method::POST, to(sessions::logout_all))]))
        .service(resource(
            "/auth/me",
            [(Method::GET, to(account::me)), (Method::DELETE, to(account::delete_me))],
        ))
        .service(resource("/auth/password", [(Method::PUT, to(account::change_password))]))
        .service(resource("/auth/reset", [(Method::POST, to(reset::reset_password))]))
        .service(large(resource("/auth/sessions", [(Method::GET, to(sessions::list))])))
        .service(resource("/auth/sessions/{id}", [(Method::DELETE, to(sessions::end))]));
}

/// Configures the routes for administrators.
fn admin_routes(config: &mut ServiceConfig) {
    config
        .configure(user_routes)
        .configure(client_routes)
        .service(resource("/admin/roles", [(Method::GET, to(admin_roles::list))]))
        .service(resource(
            "/admin/roles/{name}",
            [
                (Method::GET, to(admin_roles::read)),
                (Method::PUT, to(admin_roles::set)),
                (Method::DELETE, to(admin_roles::delete)),
            ],
        ))
        .service(resource(
            "/admin/keys",
            [
                (Method::GET, to(admin_keys::list)),
                (Method::POST, to(admin_keys::rotate)),
                (Method::DELETE, to(admin_keys::revoke_all)),
            ],
        ))
        .service(resource("/admin/keys/{kid}", [(Method::DELETE, to(admin_keys::revoke))]))
        .service(large(resource("/admin/audit", [(Method::GET, to(audit::read))])));
}

/// Configures the routes for the administration of accounts.
fn user_routes(config: &mut ServiceConfig) {
    config
        .service(large(resource(
            "/admin/users",
            [(Method::GET, to(admin::list)), (Method::POST, to(admin::create))],
        )))
        .service(resource(
            "/admin/users/{id}",
            [(Method::GET, to(admin::read)), (Method::DELETE, to(admin::delete))],
        ))
        .service(resource("/admin/users/{id}/disable", [(Method::POST, to(admin::disable))]))
        .service(resource("/admin/users/{id}/enable", [(Method::POST, to(admin::enable))]))
        .service(resource("/admin/users/{id}/roles", [(Method::PUT, to(admin::set_roles))]))
        .service(resource(
            "/admin/users/{id}/external-id",
            [(Method::PUT, to(admin_details::set_external_id))],
        ))
        .service(resource(
            "/admin/users/{id}/metadata",
            [(Method::PUT, to(admin_details::set_metadata))],
        ))
        .service(resource("/admin/users/{id}/password", [(Method::PUT, to(admin::set_password))]))
        .service(resource("/admin/users/{id}/throttle", [(Method::DELETE, to(admin::unthrottle))]))
        .service(resource("/admin/users/{id}/reset", [(Method::POST, to(reset::create_code))]))
        .service(large(resource(
            "/admin/users/{id}/sessions",
            [
                (Method::GET, to(admin_sessions::list)),
                (Method::DELETE, to(admin_sessions::end_all)),
            ],
        )))
        .service(resource(
            "/admin/users/{id}/sessions/{session}",
            [(Method::DELETE, to(admin_sessions::end))],
        ));
}

/// Configures the routes for the administration of clients.
fn client_routes(config: &mut ServiceConfig) {
    config
        .service(resource(
            "/admin/clients",
            [(Method::GET, to(admin_clients::list)), (Method::POST, to(admin_clients::create))],
        ))
        .service(resource(
            "/admin/clients/{id}",
            [
                (Method::GET, to(admin_clients::read)),
                (Method::PUT, to(admin_clients::set_rights)),
                (Method::DELETE, to(admin_clients::delete)),
            ],
        ))
        .service(resource(
            "/admin/clients/{id}/disable",
            [(Method::POST, to(admin_clients::disable))],
        ))
        .service(resource(
            "/admin/clients/{id}/enable",
            [(Method::POST, to(admin_clients::enable))],
        ))
        .service(resource(
            "/admin/clients/{id}/secrets",
            [(Method::POST, to(admin_clients::add_secret))],
        ))
        .service(resource(
            "/admin/clients/{id}/secrets/{secret}",
            [(Method::DELETE, to(admin_clients::remove_secret))],
        ));
}

/// Configures the public keys and the revocation of tokens. An application in a browser can verify
/// and revoke its own (RFC 7009 section 2.3).
fn token_routes(config: &mut ServiceConfig) {
    config
        .service(resource("/.well-known/jwks.json", [(Method::GET, to(well_known::jwks))]))
        .service(resource(
            "/.well-known/oauth-authorization-server",
            [(Method::GET, to(well_known::metadata))],
        ))
        .service(oauth_resource("/oauth/revoke", to(revoke::revoke)));
}

/// Configures the probes and the metrics.
fn operator_routes(config: &mut ServiceConfig) {
    config
        .service(resource("/health/live", [(Method::GET, to(probes::live))]))
        .service(resource("/health/ready", [(Method::GET, to(probes::ready))]))
        .service(large(resource("/metrics", [(Method::GET, to(metrics::metrics))])));
}

/// Configures the documentation.
fn documentation_routes(config: &mut ServiceConfig) {
    config
        .service(large(resource("/openapi.json", [(Method::GET, to(openapi::document))])))
        .service(resource("/docs", [(Method::GET, to(docs::page))]))
        .service(large(resource("/docs/{file}", [(Method::GET, to(docs::file))])));
}

/// Replaces the error replies of `actix-web` by [`ApiError`].
fn configure_errors(config: &mut ServiceConfig) {
    config
        .default_service(reply_with(|| ApiError::NotFound))
        .app_data(RouteMetrics::unmatched())
        .app_data(PathConfig::default().error_handler(|_, _| ApiError::NotFound.into()))
        .app_data(
            QueryConfig::default()
                .error_handler(|error, _| ApiError::InvalidQuery(error.to_string()).into()),
        );
}

/// Builds the resource at a path. Every other method gets 405 with `Allow`.
fn resource<const N: usize>(path: &'static str, routes: [(Method, Route); N]) -> Resource {
    let mut resource = web::resource(path).app_data(RouteMetrics::new(path));
    let mut allowed = Vec::new();
    for (method, route) in routes {
        let methods = answered_methods(method);
        allowed.extend(methods.iter().map(Method::to_string));
        // Not `guard::Method`, which stores the method in the request: an allocation per request.
        let guard = guard::fn_guard(move |context| methods.contains(&context.head().method));
        resource = resource.route(route.guard(guard));
    }
    let allowed = allowed.join(", ");
    resource.default_service(reply_with(move || ApiError::MethodNotAllowed(allowed.clone())))
}

/// Builds the resource of a `POST` whose errors have the fields of RFC 6749, too.
fn oauth_resource(path: &'static str, route: Route) -> impl HttpServiceFactory {
    resource(path, [(Method::POST, route)]).wrap(from_fn(add_oauth_fields))
}

/// Has large replies of a resource compressed. They must not have secrets.
fn large(resource: Resource) -> impl HttpServiceFactory {
    resource.wrap(from_fn(compress))
}

/// Returns the methods that a route answers: a route for `GET` also answers `HEAD`.
fn answered_methods(method: Method) -> Vec<Method> {
    if method == Method::GET { vec![Method::GET, Method::HEAD] } else { vec![method] }
}

/// Returns a route that always replies with an error.
fn reply_with(error: impl Fn() -> ApiError + Clone + 'static) -> Route {
    to(move || {
        let error = error();
        async move { Err::<HttpResponse, _>(error) }
    })
}
