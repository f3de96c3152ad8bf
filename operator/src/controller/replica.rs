//! What every replica serves over HTTPS, whether it leads or not.

use std::sync::Arc;

use anyhow::Context as _;
use futures::future::OptionFuture;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::adapter::{self, Mode};
use crate::authentication::{self, Configuration, Gate};
use crate::certificates::{self, Served, Source};
use crate::controller::health::Readiness;
use crate::controller::injection::Injection;
use crate::https::{self, HttpsSettings};
use crate::injection;

/// Serves until `stop` is cancelled.
pub(super) async fn serve(
    client: &Client,
    settings: &HttpsSettings,
    injection: Option<Injection>,
    readiness: &Readiness,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let (certificate, served) = Served::channel();
    let (configuration, known) = watch::channel(None);
    let adapter = adapter_of(client, settings, known.clone()).context("cannot make the HTTP client of the adapter")?;
    let (injector, reads) = injection.map(|Injection { injector, work, registration: _ }| (injector, work)).unzip();
    let injection = injector.map(injection::router);
    let tls = https::configuration(Arc::new(served.clone()))?;
    let answers = https::serve(&settings.listener, Arc::new(tls), https::routes(adapter, injection), stop.clone());
    let certificate = certificates::follow(client.clone(), &settings.service.namespace, &settings.secret, &certificate);
    let trusted = follow_trusted(client, settings, &configuration);
    let ready = become_ready(served, known, settings, readiness);
    tokio::select! {
        () = answers => {}
        () = async { tokio::join!(certificate, trusted, ready, OptionFuture::from(reads)); } => {}
    }
    Ok(())
}

fn adapter_of(
    client: &Client,
    settings: &HttpsSettings,
    known: watch::Receiver<Option<Arc<Configuration>>>,
) -> reqwest::Result<Option<axum::Router>> {
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

async fn become_ready(
    served: Served,
    mut known: watch::Receiver<Option<Arc<Configuration>>>,
    settings: &HttpsSettings,
    readiness: &Readiness,
) {
    if known.wait_for(Option::is_some).await.is_ok() {
        if let Source::Own(_) = &settings.certificates {
            served.clone().is_read().await;
            readiness.has_looked();
        }
        served.is_there().await;
        readiness.serves();
    }
    // For as long as the others go on.
    std::future::pending::<()>().await;
}
