//! Checks of an instance that runs with these settings on this machine.

use super::exposure::is_exposed;
use super::finding::Finding;
use crate::config::{Config, RawSettings};
use crate::healthcheck::{self, HealthcheckError, Reply};
use crate::telemetry::ErrorChain;

/// Longest part of a reply that is shown, in characters.
const MAX_SHOWN: usize = 200;

/// Asks the instance whether it is ready, and whether its public port has the metrics.
pub(super) async fn check(settings: &RawSettings, config: &Config) -> Vec<Finding> {
    const READY: &str = "ports.ready";
    let Ok(probes) = settings.local_address() else { return Vec::new() };
    let port = probes.port;
    if port == 0 {
        return vec![Finding::ok(READY, "not checked: port 0 selects a free one")];
    }
    let advice = "look at its log (docs/operations.md#probes)";
    let ready = match healthcheck::get(&probes, "/health/ready").await {
        Ok(Reply { status: Some(200), .. }) => {
            Finding::ok(READY, format!("the instance on port {port} is ready"))
        }
        Ok(Reply { status: Some(503), body }) => {
            let body: String = body.chars().take(MAX_SHOWN).collect();
            let message = format!("the instance on port {port} is not ready: {body}");
            Finding::warning(READY, message, advice)
        }
        Ok(_) => {
            let message = format!("the program on port {port} is not an instance of this service");
            return vec![Finding::warning(READY, message, "set PORT (docs/settings.md)")];
        }
        Err(HealthcheckError::Unreachable(..)) => {
            return vec![Finding::ok(READY, format!("no instance answers on port {port}"))];
        }
        Err(error) => {
            let message = format!("on port {port}: {}", ErrorChain(&error));
            Finding::warning(READY, message, advice)
        }
    };
    vec![ready, check_metrics(settings, config).await]
}

async fn check_metrics(settings: &RawSettings, config: &Config) -> Finding {
    const METRICS: &str = "ports.metrics";
    let Ok(public) = settings.local_public_address() else {
        return Finding::unchecked(METRICS, "the service refuses the settings");
    };
    let port = public.port;
    match healthcheck::get(&public, "/metrics").await {
        Ok(reply) if reply.status == Some(200) && is_exposed(config) => Finding::warning(
            METRICS,
            format!("the metrics are on the public port {port}, and so is the administration"),
            "set MANAGEMENT_ADDRESS (docs/reverse-proxy.md#two-listeners)",
        ),
        Ok(reply) if reply.status == Some(200) => {
            Finding::ok(METRICS, format!("the metrics on port {port} are for this machine"))
        }
        Ok(_) => Finding::ok(METRICS, format!("the public port {port} does not have the metrics")),
        Err(error) => Finding::unchecked(METRICS, ErrorChain(&error)),
    }
}
