//! Every bound that more than one room must agree on, units last. A bound that only one file
//! needs lives in that file.

use std::time::Duration;

/// Characters of a device id.
pub const DEVICE_ID_CHARS_MAX: usize = 63;
/// Characters of outside text that one output shows before it is cut with an ellipsis.
pub const SHOWN_CHARS_MAX: usize = 256;
/// Characters of an error message with its sources.
pub const ERROR_CHARS_MAX: usize = 2048;
/// Combining marks kept after one character; more only serve to draw over neighbours.
pub const COMBINING_MARKS_MAX: usize = 4;

/// Bytes of one encoded bincode value, on the link or on disk.
pub const CODEC_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one link frame.
pub const FRAME_BYTES_MAX: usize = CODEC_BYTES_MAX + 2;
/// Bytes of a JSON body, except telemetry.
pub const JSON_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a telemetry body, after decompression too.
pub const TELEMETRY_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Samples in one telemetry request.
pub const TELEMETRY_SAMPLES_MAX: usize = 20_000;
/// Bytes of what the agent's port reads.
pub const CLAIM_BYTES_MAX: usize = 16 * 1024;
/// Levels of nested JSON.
pub const JSON_DEPTH_MAX: usize = 32;

/// Samples of one report (all that an agent collected at one time).
pub const REPORT_SAMPLES_MAX: usize = 2_000;
/// Reports in one link frame.
pub const FRAME_REPORTS_MAX: usize = 256;
/// Bytes of a metric's name.
pub const METRIC_NAME_BYTES_MAX: usize = 128;
/// Labels of one sample.
pub const LABELS_MAX: usize = 16;
/// Bytes of a label's name or value.
pub const LABEL_BYTES_MAX: usize = 256;
/// Operator metadata entries of a device.
pub const METADATA_ENTRIES_MAX: usize = 100;
/// Bytes of a metadata name.
pub const METADATA_NAME_BYTES_MAX: usize = 64;
/// Bytes of a metadata value, as JSON.
pub const METADATA_VALUE_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a tag that a layer of configurations has, or that is given to a device as one.
pub const TAG_BYTES_MAX: usize = 48;
/// Layers of configurations: that of the fleet, and those of tags.
pub const CONFIG_LAYERS_MAX: usize = 256;
/// Server URLs in a grant.
pub const GRANT_URLS_MAX: usize = 16;
/// Bytes of one URL.
pub const URL_BYTES_MAX: usize = 512;
/// Devices that can be preauthorised at one time.
pub const PREAUTHS_MAX: usize = 10_000;
/// Devices waiting for an operator's word; the oldest gives way.
pub const PENDING_DEVICES_MAX: usize = 1_000;

/// Rows of a list page.
pub const PAGE_ROWS_MAX: usize = 500;
/// Rows of a telemetry query unless told otherwise.
pub const TELEMETRY_ROWS_DEFAULT: usize = 100;
/// Rows of a telemetry query at most.
pub const TELEMETRY_ROWS_MAX: usize = 10_000;

/// Slots that a stream's view names.
pub const VIEW_ROWS_MAX: usize = 400;
/// Metrics that a stream's view names.
pub const WATCHED_METRICS_MAX: usize = 32;
/// Steps of a series query.
pub const SERIES_STEPS_MAX: usize = 2_000;
/// Curves of a series reply; further ones are left out.
pub const SERIES_CURVES_MAX: usize = 100;
/// Events that are kept; the oldest give way.
pub const EVENTS_MAX: u64 = 100_000;
/// Records of what was asked for that are kept; the oldest give way.
pub const AUDIT_RECORDS_MAX: u64 = 1_000_000;
/// Characters of why something is asked for.
pub const REASON_CHARS_MAX: usize = 200;
/// Arguments of a command.
pub const COMMAND_ARGS_MAX: usize = 256;
/// Bytes of a command's words.
pub const COMMAND_BYTES_MAX: usize = 32 * 1024;
/// Bytes of what a command's program writes that are kept.
pub const COMMAND_OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Commands that one device may have to do.
pub const COMMANDS_PER_DEVICE_MAX: usize = 64;
/// Commands that are kept; the oldest of those that are over give way.
pub const COMMANDS_MAX: u64 = 100_000;
/// Devices of a batch.
pub const BATCH_DEVICES_MAX: usize = 20_000;
/// Bytes of what a batch changes in configurations.
pub const BATCH_CONFIG_BYTES_MAX: usize = 64 * 1024;
/// Batches that are kept; the oldest of those that are over give way.
pub const BATCHES_MAX: u64 = 1_000;
/// Batches that may be under way at one time.
pub const BATCHES_OPEN_MAX: u64 = 50;
/// Lines of a log that are asked for at once, and that are remembered of one device.
pub const LOG_LINES_MAX: usize = 1_000;
/// Lines of a log unless told otherwise.
pub const LOG_LINES_DEFAULT: usize = 200;
/// Bytes of one such line; a longer one is cut.
pub const LOG_LINE_BYTES_MAX: usize = 4 * 1024;
/// Bytes of what must be in a line.
pub const LOG_GREP_BYTES_MAX: usize = 256;
/// Lines of a log that a device sends at once.
pub const LOG_NEWS_LINES_MAX: usize = 512;
/// Different asks for lines that one device answers at one time.
pub const LOG_ASKS_MAX: usize = 4;
/// Bytes of a filter's text.
pub const FILTER_BYTES_MAX: usize = 2 * 1024;
/// Levels of a filter's brackets and nots.
pub const FILTER_DEPTH_MAX: usize = 32;

/// How long records of what was asked for are kept.
pub const AUDIT_KEPT: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long a grant lets its device in.
pub const GRANT_LIFETIME: Duration = Duration::from_secs(600);
/// How long a command may wait for its device unless told otherwise.
pub const COMMAND_EXPIRY_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// How long one may wait at most.
pub const COMMAND_EXPIRY_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long after its start an unclaimed agent can be claimed.
pub const CLAIM_WINDOW: Duration = Duration::from_secs(24 * 3600);
/// How long a preauthorisation counts unless told otherwise.
pub const PREAUTH_LIFETIME_DEFAULT: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long a device takes no claims after too many wrong proofs.
pub const CLAIM_REST: Duration = Duration::from_secs(600);
/// Seconds between reports unless configured.
pub const TELEMETRY_INTERVAL_DEFAULT: Duration = Duration::from_secs(60);
/// The shortest interval between reports.
pub const TELEMETRY_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The longest interval between reports.
pub const TELEMETRY_INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);
/// The shortest silence after which a device counts as offline.
pub const OFFLINE_AFTER_MIN: Duration = Duration::from_secs(90);
/// How long a device may be offline before it counts as lost.
pub const LOST_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);
