//! Over how many Pods a stage is divided, and what that asks of its Job.

use crate::pod::METRICS_PORT;
use crate::training::workers;

/// Over how many Pods a stage is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Division {
    /// One makes the whole result.
    Undivided,
    /// Each makes a part of the result, some of them at once.
    Shards {
        /// In all.
        count: u32,
        /// That run at once.
        at_once: u32,
    },
    /// All of them at once make one result, which does not depend on how many they are.
    Workers {
        /// In all.
        count: u32,
    },
}

impl Division {
    /// So many processes.
    pub(super) fn of_workers(count: u32) -> Self {
        if count > 1 { Self::Workers { count } } else { Self::Undivided }
    }

    /// The number of parts of the result.
    pub(super) fn parts(self) -> Option<u32> {
        match self {
            Self::Shards { count, at_once: _ } => Some(count),
            Self::Undivided | Self::Workers { .. } => None,
        }
    }

    /// The indexes of an Indexed Job, and how many of them run at once; none where a Job of one Pod will do.
    pub(super) fn indexes(self) -> Option<(u32, u32)> {
        match self {
            Self::Undivided => None,
            Self::Shards { count, at_once } => Some((count, at_once)),
            Self::Workers { count } => Some((count, count)),
        }
    }

    /// The ports of each Pod.
    pub(super) fn ports(self) -> &'static [(&'static str, i32)] {
        match self {
            Self::Undivided | Self::Shards { .. } => &[("metrics", METRICS_PORT)],
            Self::Workers { .. } => &[("metrics", METRICS_PORT), (workers::PORT_NAME, workers::PORT)],
        }
    }
}
