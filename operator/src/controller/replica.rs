//! What every replica serves over HTTPS, whether it leads or not.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::adapter::{self, Mode};
use crate::authentication::{self, Configuration, Gate};
use crate::certificates::{self, Served};
use crate::controller::health::Readiness;
use crate::https::{self, HttpsSettings};

/// Serves until `stop` is cancelled; `injection` is the router of the webhook for sidecars, where there is one.
pub(super) async fn serve(
    client: &Client,
    settings: &HttpsSettings,
    injection: Option<Router>,
    readiness: &Readiness,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let (certificate, served) = Served::channel();
    let (configuration, known) = watch::channel(None);
    let adapter = adapter_of(client, settings, known.clone()).context("cannot make the HTTP client of the adapter")?;
    let tls = https::configuration(Arc::new(served.clone()))?;
    let answers = https::serve(&settings.listener, Arc::new(tls), https::routes(adapter, injection), stop.clone());
    let certificate = certificates::follow(client.clone(), &settings.service.namespace, &settings.secret, &certificate);
    let trusted = follow_trusted(client, settings, &configuration);
    tokio::select! {
        () = answers => {}
        () = async { tokio::join!(certificate, trusted, become_ready(served, known, readiness)); } => {}
    }
    Ok(())
}

fn adapter_of(
    client: &Client,
    settings: &HttpsSettings,
    known: watch::Receiver<Option<Arc<Configuration>>>,
) -> reqwest::Result<Option<Router>> {
    match settings.adapter {
        Mode::False => Ok(None),
        Mode::Auto | Mode::True => adapter::router(client.clone(), Gate::new(client.clone(), known)).map(Some),
    }
}

/// Only the adapter needs to know who asks.
async fn follow_trusted(
    client: &Client,
    settings: &HttpsSettings,
    configuration: &watch::Sender<Option<Arc<Configuration>>>,
) {
    match settings.adapter {
        Mode::False => drop(configuration.send_replace(Some(Arc::default()))),
        Mode::Auto | Mode::True => authentication::follow(client.clone(), configuration).await,
    }
}

async fn become_ready(served: Served, mut known: watch::Receiver<Option<Arc<Configuration>>>, readiness: &Readiness) {
    served.is_there().await;
    if known.wait_for(Option::is_some).await.is_ok() {
        readiness.serves();
    }
    // For as long as the others go on.
    std::future::pending::<()>().await;
}
