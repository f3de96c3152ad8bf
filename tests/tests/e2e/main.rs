//! What the resources promise, on clusters that are broken on purpose. `make e2e` runs it; each test takes minutes.

mod chart;
mod failures;
mod gates;
mod load;
mod operator;
mod scaling;
mod scenario;
mod secrets;
mod serving;
mod sidecar;
mod sources;
mod storage;
mod training;
