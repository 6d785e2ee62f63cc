//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): connects the log lines of a request
//! with the trace of its caller.

use actix_web::http::header::{HeaderMap, HeaderName};

/// Header of the trace context.
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Header with more about the trace, which the service ignores.
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Ids in the header of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TraceContext<'a> {
    pub(super) trace_id: &'a str,
    /// Id of the caller's span. The service opens none of its own.
    pub(super) span_id: &'a str,
}

impl<'a> TraceContext<'a> {
    /// Returns the context of a request. `None` if there is no header, more than one, or a
    /// malformed one: no trace is made up.
    pub(super) fn from_headers(headers: &'a HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT);
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then(|| Self::parse(value))?
    }

    /// Parses `version-trace_id-span_id-flags` (section 3.2). A later version may have more fields.
    fn parse(value: &'a str) -> Option<Self> {
        let mut fields = value.splitn(5, '-');
        let (version, trace_id) = (fields.next()?, fields.next()?);
        let (span_id, flags) = (fields.next()?, fields.next()?);
        let is_version = is_hex(version, 2) && version != "ff";
        let is_complete = version != "00" || fields.next().is_none();
        let is_valid = is_version && is_id(trace_id, 32) && is_id(span_id, 16) && is_hex(flags, 2);
        (is_valid && is_complete).then_some(Self { trace_id, span_id })
    }
}

/// Returns `true` for lower-case hexadecimal digits, not all of them zero.
fn is_id(text: &str, len: usize) -> bool {
    is_hex(text, len) && text.bytes().any(|byte| byte != b'0')
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn headers(values: &[&'static str]) -> HeaderMap {
        let values = values.iter().map(|value| (TRACEPARENT, HeaderValue::from_static(value)));
        values.collect()
    }

    #[test]
    fn valid_header_has_the_ids() {
        for valid in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            // Flags that have no meaning yet.
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-will-be-like",
        ] {
            let expected = TraceContext { trace_id: TRACE, span_id: SPAN };
            assert_eq!(TraceContext::from_headers(&headers(&[valid])), Some(expected), "{valid}");
        }
    }

    #[test]
    fn malformed_header_is_ignored() {
        for malformed in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-001",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-.0",
            // Version 00 has four fields.
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what-the-future",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "000-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ".0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
            "CC-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47361-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b71-01",
            "00-.bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-.0f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        ] {
            let headers = headers(&[malformed]);
            assert_eq!(TraceContext::from_headers(&headers), None, "{malformed}");
        }
    }

    #[test]
    fn second_header_makes_both_ignored() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

        assert_eq!(TraceContext::from_headers(&headers(&[valid, valid])), None);
        assert_eq!(TraceContext::from_headers(&headers(&[])), None);
    }
}
