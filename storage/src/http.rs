//! The one HTTP client of this crate, for all sources alike: certificates, proxy, redirects that carry no secret to another host,
//! and answers turned into errors that say what to do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::header::{AUTHORIZATION, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, BodyStream, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use crate::access::Access;
use crate::connector::Connector;
use crate::error::{Result, StorageError};

const AGENT: HeaderValue = HeaderValue::from_static(concat!("cllm/", env!("CARGO_PKG_VERSION")));
/// From the request to the head of the answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes per second below which an upload counts as broken.
const SLOWEST_UPLOAD: u64 = 16 << 10;
const MOST_REDIRECTS: usize = 8;
/// Lists and manifests are far smaller.
const MOST_METADATA_BYTES: usize = 64 << 20;

/// The bytes of an answer; an error is a broken connection.
pub(crate) type Bytestream = BoxStream<'static, std::result::Result<Bytes, String>>;

/// The client.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Client<HttpsConnector<Connector>, HttpRequestBody>,
}

/// A GET or HEAD that is followed through redirects.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    pub(crate) headers: HeaderMap,
    /// Sent to the host of `url` alone.
    pub(crate) authorization: Option<HeaderValue>,
}

/// Heads of all answers on the way, the last one's body.
pub(crate) struct Answer {
    /// Of the host that was asked, before any redirect.
    pub(crate) first: HeaderMap,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
}

impl Http {
    /// With the certificates and the proxy of the access.
    pub(crate) fn new(access: &Access) -> Result<Self> {
        let proxy = access.proxy_url()?.map(|url| url.as_str().parse());
        let proxy =
            proxy.transpose().map_err(|_| StorageError::Configuration("the proxy is not an address".to_owned()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| StorageError::Configuration(error.to_string()))?
            .with_root_certificates(roots(access)?)
            .with_no_client_auth();
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector::new(proxy));
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    /// Asks and follows redirects; any final status is an answer.
    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Result<Answer> {
        let (mut url, mut first) = (ask.url.clone(), None);
        for _ in 0..=MOST_REDIRECTS {
            let asked = describe(&ask.method, &url);
            let mut headers = ask.headers.clone();
            headers.insert(USER_AGENT, AGENT);
            if let Some(secret) = ask.authorization.as_ref().filter(|_| url.origin() == ask.url.origin()) {
                headers.insert(AUTHORIZATION, secret.clone());
            }
            let mut request = Request::new(HttpRequestBody::empty());
            *request.method_mut() = ask.method.clone();
            *request.uri_mut() = url.as_str().parse().map_err(|error| StorageError::unexpected(&asked, error))?;
            *request.headers_mut() = headers;
            let response = self.send(request).await.map_err(|problem| StorageError::unavailable(&asked, problem))?;
            let (parts, body) = response.into_parts();
            let first = first.get_or_insert_with(|| parts.headers.clone());
            match parts.headers.get(LOCATION).filter(|_| is_redirect(parts.status)) {
                // a signed address of a store may be good for GET alone
                Some(location) if ask.method != Method::HEAD || is_same_origin(&url, location) => {
                    url = follow(&url, location, &asked)?;
                }
                _ => return Ok(Answer { first: first.clone(), status: parts.status, headers: parts.headers, body }),
            }
        }
        Err(StorageError::unexpected(&describe(&ask.method, ask.url), format!("more than {MOST_REDIRECTS} redirects")))
    }

    async fn send(&self, request: Request<HttpRequestBody>) -> std::result::Result<Response<Incoming>, String> {
        // the answer to an upload comes after it
        let upload = Duration::from_secs(request.body().content_length() as u64 / SLOWEST_UPLOAD);
        let limit = HEAD_TIMEOUT + upload;
        match tokio::time::timeout(limit, self.client.request(request)).await {
            Ok(answer) => answer.map_err(|error| chain(&error)),
            Err(_) => Err(format!("no answer within {} seconds", limit.as_secs())),
        }
    }
}

impl Answer {
    /// A header of the last answer as text.
    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The whole body, which must be small.
    pub(crate) async fn bytes(self, asked: &str) -> Result<Bytes> {
        let limited = Limited::new(self.body, MOST_METADATA_BYTES).collect();
        match tokio::time::timeout(HEAD_TIMEOUT, limited).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) => Err(StorageError::unavailable(asked, error)),
            Err(_) => Err(StorageError::unavailable(asked, "the answer does not end")),
        }
    }

    /// The body as it comes.
    pub(crate) fn stream(self) -> Bytestream {
        let data = BodyStream::new(self.body).try_filter_map(|frame| async move { Ok(frame.into_data().ok()) });
        data.map_err(|error| chain(&error)).boxed()
    }

    /// What a status that is no success means. `advice` is for 401, 403 and 404.
    pub(crate) fn refusal(&self, asked: &str, advice: &str) -> StorageError {
        refusal(asked, self.status, self.headers.get(RETRY_AFTER), advice)
    }
}

/// Another try can help against overload and broken servers; nothing else.
fn refusal(asked: &str, status: StatusCode, retry_after: Option<&HeaderValue>, advice: &str) -> StorageError {
    let seconds = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
    if status.is_server_error() || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status) {
        return StorageError::Unavailable {
            asked: asked.to_owned(),
            problem: format!("it was answered with {status}"),
            retry_after: seconds,
        };
    }
    StorageError::Refused { asked: asked.to_owned(), status: status.to_string(), advice: advice.to_owned() }
}

/// Method and address; queries of signed addresses are secrets.
pub(crate) fn describe(method: &Method, url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{method} {}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

fn is_redirect(status: StatusCode) -> bool {
    [301, 302, 303, 307, 308].contains(&status.as_u16())
}

fn is_same_origin(from: &Url, location: &HeaderValue) -> bool {
    let next = location.to_str().ok().and_then(|location| from.join(location).ok());
    next.is_some_and(|next| next.origin() == from.origin())
}

fn follow(from: &Url, location: &HeaderValue, asked: &str) -> Result<Url> {
    let next = location.to_str().ok().and_then(|location| from.join(location).ok());
    let next = next.filter(|next| ["http", "https"].contains(&next.scheme()));
    let next = next.ok_or_else(|| StorageError::unexpected(asked, "a redirect to no web address"))?;
    if from.scheme() == "https" && next.scheme() == "http" {
        return Err(StorageError::unexpected(asked, "a redirect from https to http"));
    }
    Ok(next)
}

/// An error with its causes: the outermost alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn roots(access: &Access) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let Some(path) = &access.ca_bundle else { return Ok(roots) };
    let refused = |problem: String| {
        StorageError::Configuration(format!("the CA bundle {} {problem}; give PEM certificates", path.display()))
    };
    let pem = std::fs::read(path).map_err(|error| refused(format!("cannot be read ({error})")))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| refused(format!("is damaged ({error})")))?;
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 { Err(refused("holds no certificate".to_owned())) } else { Ok(roots) }
}

impl HttpConnector for Http {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait::async_trait]
impl HttpService for Http {
    async fn call(&self, request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        let response = self.send(request).await;
        let response = response.map_err(|text| HttpError::new(HttpErrorKind::Request, std::io::Error::other(text)))?;
        Ok(response
            .map(|body| HttpResponseBody::new(body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error)))))
    }
}
