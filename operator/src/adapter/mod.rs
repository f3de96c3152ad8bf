//! `custom.metrics.k8s.io/v1beta2`: the figures that autoscalers ask for, read from the metrics pages of a model's Pods.
//!
//! Stateless and the same on every replica: who is asked reads the pages. A Pod that is not ready, about to end or does not answer is left
//! out, never counted as 0, which would make the autoscaler remove replicas (it allows for the missing itself). The API is that of
//! <https://github.com/kubernetes/metrics/tree/master/pkg/apis/custom_metrics/v1beta2>; its paths are
//!
//! - `/namespaces/NS/pods/NAME/METRIC`, `NAME` being `*` for those that `labelSelector` selects,
//! - `/namespaces/NS/cllmmodels.cllm.dev/NAME/METRIC`, the same for models: over all Pods of a model.

mod discovery;
mod figures;
mod metric;
mod page;
mod registration;
mod router;
mod scrape;
mod selector;
mod standing;
mod survey;
mod values;

pub use discovery::{api_group, api_groups, api_resources};
pub use figures::{Figure, Figures, Reading};
pub use metric::{Metric, Total};
pub use page::read_page;
pub use registration::{API_SERVICE, Mode, OwnerGone, Registration, ServiceAddress, register};
pub use router::router;
pub use selector::{SelectorError, parse_selector};
pub use standing::{Standing, Target, standing};
pub use survey::{Counted, Survey, total};
pub use values::{Object, metric_value_list, milli_quantity};

/// The group of the API. One provider alone can have it.
pub const GROUP: &str = "custom.metrics.k8s.io";
/// Its version.
pub const VERSION: &str = "v1beta2";

/// Pods, as paths and rights name them.
const PODS: &str = "pods";
/// Models, as paths and rights name them.
const MODELS: &str = "cllmmodels.cllm.dev";
