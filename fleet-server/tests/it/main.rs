//! The server's integration tests, in one program.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod backup;
mod backup_faults;
mod cli;
mod cli_kit;
mod cuts_kit;
mod db;
mod export;
mod export_faults;
mod export_kit;
mod hostile;
mod influx;
mod link;
mod metrics;
mod model_kit;
mod page;
mod page_kit;
mod program;
mod rest_auth;
mod rest_events;
mod rest_filter;
mod rest_reference;
mod rest_series;
mod series_tiers;
mod server_kit;
mod start;
mod store_contract;
mod store_cuts;
mod store_disk;
mod store_events;
mod store_faults;
mod store_flips;
mod store_kit;
mod store_model;
mod stream;
mod stream_kit;
