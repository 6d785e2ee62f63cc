//! Controls for the benchmarks of the service: the least work for the same result.
//!
//! - `control http`: bare actix-web handlers with the replies of the service.
//! - `control pbkdf2 ITERATIONS SECONDS`: PBKDF2 on all cores; prints the hashes per second.
#![expect(clippy::print_stdout, reason = "standard output is the result")]

use std::error::Error;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::thread;
use std::time::{Duration, Instant};

use actix_web::http::header::{CACHE_CONTROL, ContentType, ETAG, RETRY_AFTER};
use actix_web::rt::System;
use actix_web::rt::time::sleep;
use actix_web::{App, HttpResponse, HttpServer, Responder, web};
use ring::digest::{SHA256, digest};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::hmac::{self, HMAC_SHA256};
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["http"] => Ok(System::new().block_on(serve())?),
        ["pbkdf2", iterations, seconds] => hash(iterations.parse()?, seconds.parse()?),
        _ => Err("usage: control http | control pbkdf2 ITERATIONS SECONDS".into()),
    }
}

async fn serve() -> std::io::Result<()> {
    let routes = || {
        App::new()
            .route("/protected/dashboard", web::get().to(dashboard))
            .route("/auth/check", web::get().to(check))
            .route("/auth/login", web::post().to(refuse_login))
            .route("/.well-known/jwks.json", web::get().to(keys))
    };
    let server = HttpServer::new(routes)
        .workers(thread::available_parallelism()?.get())
        .bind("127.0.0.1:0")?;
    let address = server.addrs().first().copied().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    println!("listening on http://{address}");
    server.run().await
}

async fn dashboard() -> impl Responder {
    let reply = r#"{"message":"Welcome testuser, this is your dashboard"}"#;
    HttpResponse::Ok().content_type(ContentType::json()).body(reply)
}

async fn check() -> impl Responder {
    HttpResponse::Ok()
        .insert_header(("x-auth-user-id", "2c1f0bd2-4c26-4b3d-8f0e-0d6a6f1f1d0a"))
        .insert_header(("x-auth-username", "testuser"))
        .insert_header(("x-auth-roles", "user"))
        .insert_header(("x-auth-scope", "dashboard:read"))
        .insert_header(("x-auth-session-id", "9be0a6a7-31a0-4a6f-9d57-4c1c8a4e3f0b"))
        .insert_header(("x-auth-client-id", "portcullis"))
        .finish()
}

/// Refuses a login as late as the service does when its queue is full.
async fn refuse_login() -> impl Responder {
    sleep(Duration::from_millis(100).mul_f64(0.5 + fastrand::f64())).await;
    HttpResponse::TooManyRequests().insert_header((RETRY_AFTER, "1")).finish()
}

async fn keys() -> impl Responder {
    let key = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U","alg":"ES256","use":"sig"}"#;
    HttpResponse::Ok()
        .content_type(ContentType::json())
        .insert_header((CACHE_CONTROL, "public, max-age=300"))
        .insert_header((ETAG, r#""oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U""#))
        .body(format!(r#"{{"keys":[{key},{key}]}}"#))
}

fn hash(iterations: NonZeroU32, seconds: f64) -> Result<(), Box<dyn Error>> {
    let threads = thread::available_parallelism()?.get();
    let duration = Duration::from_secs_f64(seconds);
    use_ring_as_the_service_does()?;
    let rate: f64 = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| hash_for(iterations, duration))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).sum()
    });
    println!("{rate}");
    Ok(())
}

/// Calls HKDF, HMAC and SHA-256. PBKDF2 consists of some small functions of `ring`. Without other
/// callers of them, the compiler makes one loop of them all, and a hash takes a tenth less time.
fn use_ring_as_the_service_does() -> Result<(), Box<dyn Error>> {
    let (secret, mut derived) = (black_box([1; 32]), [0; 32]);
    let key = Salt::new(HKDF_SHA256, &secret).extract(&secret);
    key.expand(&[&secret], HKDF_SHA256)
        .and_then(|output| output.fill(&mut derived))
        .map_err(|_| "HKDF failed")?;
    black_box(hmac::sign(&hmac::Key::new(HMAC_SHA256, &derived), &secret));
    black_box(digest(&SHA256, &derived));
    Ok(())
}

/// Computes hashes on one thread and returns their number per second.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn hash_for(iterations: NonZeroU32, duration: Duration) -> f64 {
    let mut key = [0; 32];
    let mut hashes = 0.0;
    let began_at = Instant::now();
    while began_at.elapsed() < duration {
        pbkdf2::derive(PBKDF2_HMAC_SHA256, iterations, &[0; 16], b"testpass", &mut key);
        black_box(&key);
        hashes += 1.0;
    }
    hashes / began_at.elapsed().as_secs_f64()
}
