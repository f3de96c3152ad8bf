//! How far the stage that runs is, from what its Pods say of themselves.

use cllm_crds::status_page::{JobStage, Progress, TrainerStatus};

/// The pages of the Pods of one stage as one. Shards that run side by side count together: their percentages are added up, and
/// [`of_shards`] divides them.
pub fn together(pages: Vec<TrainerStatus>) -> Option<TrainerStatus> {
    pages.into_iter().reduce(|mut merged, page| {
        if page.stage == merged.stage && page.stage == JobStage::Collecting {
            merged.progress.progress_percentage += page.progress.progress_percentage;
            let remaining = page.progress.estimated_remaining_seconds;
            merged.progress.estimated_remaining_seconds = merged.progress.estimated_remaining_seconds.max(remaining);
        }
        merged
    })
}

/// The progress of all shards together, of which some are written. Between two Pods nobody speaks: then it stays where it was.
pub(super) fn of_shards(
    running: Option<Progress>,
    known: Option<Progress>,
    written: u32,
    shards: u32,
) -> Option<Progress> {
    let percent_of = |running: u32| ((100 * written + running) / shards.max(1)).min(100);
    let progress_percentage = match (&running, &known) {
        (Some(running), _) => percent_of(running.progress_percentage),
        (None, Some(known)) => known.progress_percentage.max(percent_of(0)),
        (None, None) => return None,
    };
    // A Pod knows nothing of the shards after its own.
    let is_last = written + 1 >= shards;
    let progress = running.or(known)?;
    let estimated_remaining_seconds = progress.estimated_remaining_seconds.filter(|_| is_last);
    Some(Progress { progress_percentage, estimated_remaining_seconds, ..progress })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(progress_percentage: u32) -> Progress {
        Progress {
            progress_percentage,
            estimated_remaining_seconds: Some(7),
            metrics: Vec::new(),
            last_updated_time: "2026-01-01T00:00:00Z".to_owned(),
        }
    }

    #[test]
    fn it_never_goes_back_while_shards_are_handed_on() {
        // What the running Pods say, and how many of four shards are written.
        let looks =
            [(None, 0), (Some(50), 0), (Some(150), 0), (None, 1), (Some(90), 1), (None, 2), (None, 3), (Some(40), 3)];
        let mut known = None;
        let percents = looks.map(|(running, written)| {
            known = of_shards(running.map(progress), known.take(), written, 4);
            known.as_ref().map(|progress| progress.progress_percentage)
        });
        assert_eq!(percents, [None, Some(12), Some(37), Some(37), Some(47), Some(50), Some(75), Some(85)]);
        assert_eq!(known.unwrap().estimated_remaining_seconds, Some(7), "the last shard knows");
        assert_eq!(of_shards(Some(progress(50)), None, 0, 4).unwrap().estimated_remaining_seconds, None);
    }
}
