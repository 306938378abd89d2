//! What a server of metrics answers.

use crate::httpd::{Body, Request, Response};

/// Clients at the same time that are enough for it.
pub const MAX_CLIENTS: usize = 8;

/// The media type of the text format of Prometheus (prometheus.io/docs/instrumenting/exposition_formats).
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers `GET` and `HEAD` of `/metrics` with what `text` returns, or the words of its error, and nothing else.
pub fn answer(request: &Request, text: impl Fn() -> Result<String, String>) -> Response {
    match (request.is_reading(), request.path.as_str()) {
        (true, "/metrics" | "/") => match text() {
            Ok(text) => Response {
                status: "200 OK",
                headers: vec![("Content-Type", MEDIA_TYPE.to_owned())],
                body: Body::Bytes(text.into_bytes()),
            },
            Err(e) => Response::text("500 Internal Server Error", format!("{e}\n")),
        },
        (true, _) => Response::text("404 Not Found", "metrics are at /metrics\n"),
        (false, _) => Response::text("405 Method Not Allowed", "GET /metrics\n"),
    }
}
