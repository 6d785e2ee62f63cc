//! [`JsonLines`]: writes an event as one line of JSON, of the same shape for every part of the
//! program.

use std::fmt::{self, Debug, Write};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Format of a line: an object of `timestamp`, `level`, `target` and `message`, then the fields of
/// the spans, which are the ids of the request, then those of the event.
pub(super) struct JsonLines;

impl<'w> FormatFields<'w> for JsonLines {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        fields.record(&mut Fields::new(writer));
        Ok(())
    }
}

impl<S> FormatEvent<S, Self> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, Self>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::new(String::new());
        event.record(&mut fields);
        let Fields { message, target, others } = fields;
        let target = target.unwrap_or_else(|| event.metadata().target().to_owned());

        writer.write_str(r#"{"timestamp":""#)?;
        SystemTime.format_time(&mut writer)?;
        let level = event.metadata().level();
        let (target, message) = (Value::from(target), Value::from(message));
        write!(writer, r#"","level":"{level}","target":{target},"message":{message}"#)?;
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<Self>>() {
                writer.write_str(fields)?;
            }
        }
        writeln!(writer, "{others}}}")
    }
}

/// Fields of an event or a span.
struct Fields<W> {
    message: String,
    /// Target of an event of the crate `log`, whose metadata have another.
    target: Option<String>,
    /// The other fields as JSON, with a comma before each.
    others: W,
}

impl<W: Write> Fields<W> {
    fn new(others: W) -> Self {
        Self { message: String::new(), target: None, others }
    }

    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        let value = value.into();
        match (field.name(), value) {
            ("message", Value::String(message)) => self.message = message,
            ("log.target", Value::String(target)) => self.target = Some(target),
            (name, _) if name.starts_with("log.") => {}
            (name, value) => {
                // Writing to memory cannot fail.
                let _ = write!(self.others, ",{name:?}:{value}");
            }
        }
    }
}

impl<W: Write> Visit for Fields<W> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use tracing::subscriber::with_default;
    use tracing::{Level, event};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{fmt::layer, registry};

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Output {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the only line of what logs, without its time.
    fn line_of(log: impl FnOnce()) -> Value {
        let output = Output::default();
        let writer = output.clone();
        let layer = layer()
            .fmt_fields(JsonLines)
            .event_format(JsonLines)
            .with_writer(move || writer.clone());
        with_default(registry().with(layer), log);
        let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.find('\n'), Some(text.len() - 1), "{text}");
        let mut line: Value = serde_json::from_str(&text).unwrap();
        let timestamp = line.as_object_mut().unwrap().remove("timestamp").unwrap();
        assert!(timestamp.as_str().unwrap().ends_with('Z'), "{timestamp}");
        line
    }

    #[test]
    fn ids_of_the_request_and_fields_of_the_event_are_flat() {
        let line = line_of(|| {
            let (id, none) = ("\"7\n", None::<&str>);
            let span = tracing::error_span!("request", request.id = id, trace_id = none, "\"" = 1);
            let _entered = span.enter();
            event!(target: "here", Level::WARN, user.id = %"\"\n", count = 3, is_new = true, "said");
        });

        let expected = json!({
            "level": "WARN", "target": "here", "message": "said",
            "request.id": "\"7\n", "\"": 1, "user.id": "\"\n", "count": 3, "is_new": true,
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn line_without_a_message_has_an_empty_one() {
        let line = line_of(|| tracing::info!(target: "here", elapsed_secs = 0.5));

        let expected =
            json!({ "level": "INFO", "target": "here", "message": "", "elapsed_secs": 0.5 });
        assert_eq!(line, expected);
    }

    #[test]
    fn line_of_the_crate_log_has_its_own_target() {
        let line = line_of(|| {
            event!(target: "log", Level::INFO, log.target = "rustls", log.line = 1, "done");
        });

        assert_eq!(line, json!({ "level": "INFO", "target": "rustls", "message": "done" }));
    }
}
