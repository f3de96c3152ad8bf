//! Reads the pages of Pods, many at once, each at most once in two seconds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use k8s_openapi::jiff::Timestamp;

use crate::adapter::figures::Reading;
use crate::adapter::page::read_page;
use crate::adapter::standing::Target;

/// An autoscaler asks for one metric after the other, and all are on the same page.
const HOLDS_FOR: Duration = Duration::from_secs(2);
const AT_ONCE: usize = 64;
/// A page of ours has a few KiB. What a Pod sends beyond is not read.
const LONGEST_PAGE: usize = 1 << 20;

/// What was read of one Pod last; absent, when it did not answer. Who reads it holds the lock, so that others wait for the same answer.
type Cell = Arc<tokio::sync::Mutex<Option<(Instant, Option<Reading>)>>>;

/// The pages of all Pods that were asked not long ago.
#[derive(Debug)]
pub(super) struct Pages {
    client: reqwest::Client,
    cells: Mutex<HashMap<String, (Instant, Cell)>>,
}

impl Pages {
    pub(super) fn new(client: reqwest::Client) -> Self {
        Self { client, cells: Mutex::default() }
    }

    /// What each of them says; `None` for one that does not answer.
    pub(super) async fn read(&self, targets: Vec<Target>) -> Vec<(Target, Option<Reading>)> {
        let readings = stream::iter(targets).map(|target| async move {
            let reading = self.one(&target).await;
            (target, reading)
        });
        readings.buffered(AT_ONCE).collect().await
    }

    async fn one(&self, target: &Target) -> Option<Reading> {
        let cell = self.cell(&target.uid);
        let mut known = cell.lock().await;
        if let Some((_, reading)) = known.as_ref().filter(|(at, _)| at.elapsed() < HOLDS_FOR) {
            return reading.clone();
        }
        let reading = match self.page(&target.url).await {
            Ok(page) => Some(Reading { at: Timestamp::now(), figures: read_page(&page) }),
            Err(error) => {
                tracing::debug!(pod = %target.name, url = %target.url, %error, "no metrics page");
                None
            }
        };
        *known = Some((Instant::now(), reading.clone()));
        reading
    }

    /// The cell of a Pod. Those of Pods that nobody asked for of late are forgotten.
    fn cell(&self, uid: &str) -> Cell {
        let now = Instant::now();
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        cells.retain(|_, (asked, _)| now.saturating_duration_since(*asked) < 10 * HOLDS_FOR);
        let (asked, cell) = cells.entry(uid.to_owned()).or_insert_with(|| (now, Cell::default()));
        *asked = now;
        cell.clone()
    }

    async fn page(&self, url: &str) -> Result<String, reqwest::Error> {
        let mut answer = self.client.get(url).send().await?.error_for_status()?;
        let mut page = Vec::new();
        while let Some(part) = answer.chunk().await? {
            page.extend_from_slice(&part);
            if page.len() > LONGEST_PAGE {
                page.truncate(LONGEST_PAGE);
                break;
            }
        }
        Ok(String::from_utf8_lossy(&page).into_owned())
    }
}
