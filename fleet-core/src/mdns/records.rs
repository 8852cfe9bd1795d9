//! The records of a service on one link, and the names they stand under.
//!
//! The service's own PTR and the one that lists its type are shared with other hosts and never
//! carry the cache-flush bit; all others are ours alone and always do.

use std::io;
use std::net::IpAddr;

use simple_dns::rdata::{PTR, RData, SRV, TXT};
use simple_dns::{CLASS, Name, ResourceRecord};
use simple_mdns::InstanceInformation;
use simple_mdns::conversion_utils::ip_addr_to_resource_record;

use super::Service;

/// Bytes of the TXT record that we publish; with all else it must fit into one probe.
const TXT_BYTES_MAX: usize = 900;
/// Bytes of one label.
const LABEL_BYTES_MAX: usize = 63;
/// RFC 6762 §10: what names a host lives two minutes, all else 75.
const HOST_TTL_SECS: u32 = 120;
const OTHER_TTL_SECS: u32 = 4500;

/// The names of a service's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// `_services._dns-sd._udp.local`
    pub(super) types: Name<'static>,
    /// `_fleetd._tcp.local`
    pub(super) service: Name<'static>,
    /// `fleetd-rpi4-001._fleetd._tcp.local`
    pub(super) instance: Name<'static>,
    /// `rpi4.local`
    pub(super) host: Name<'static>,
}

impl Names {
    /// The names of a service with these names of instance and host.
    pub(super) fn new(service_type: &str, instance: &str, host: &str) -> io::Result<Self> {
        let escaped = InstanceInformation::new(instance.to_owned()).escaped_instance_name();
        let host_name = name(&format!("{host}.local"))?;
        if !host_name.is_valid_hostname() {
            return Err(invalid(&format!("{host:?} is not a host name")));
        }
        Ok(Self {
            types: name("_services._dns-sd._udp.local")?,
            service: service_name(service_type)?,
            instance: name(&format!("{escaped}.{service_type}.local"))?,
            host: host_name,
        })
    }
}

/// The full name of a service type such as `_fleetd._tcp`.
pub(super) fn service_name(service_type: &str) -> io::Result<Name<'static>> {
    let name = name(&format!("{service_type}.local"))?;
    if name.is_valid_service_name() {
        Ok(name)
    } else {
        Err(invalid(&format!("{service_type:?} is not a service type such as _fleetd._tcp")))
    }
}

/// The TXT data of these attributes, in this order.
pub(super) fn txt_data(attributes: &[(String, String)]) -> io::Result<TXT<'static>> {
    let mut txt = TXT::new();
    let mut bytes = 0;
    for (key, value) in attributes {
        bytes += key.len() + value.len() + 2;
        txt.add_attribute(key, Some(value.as_bytes()))
            .map_err(|_| invalid(&format!("{key:?} and its value are no TXT attribute")))?;
    }
    if bytes > TXT_BYTES_MAX {
        return Err(invalid(&format!("TXT record is longer than {TXT_BYTES_MAX} bytes")));
    }
    Ok(txt)
}

/// All records of a service on a link with these addresses.
pub(super) fn records(
    names: &Names,
    port: u16,
    txt: &TXT<'static>,
    addresses: impl Iterator<Item = IpAddr>,
) -> Vec<ResourceRecord<'static>> {
    let record =
        |name: &Name<'static>, ttl, rdata| ResourceRecord::new(name.clone(), CLASS::IN, ttl, rdata);
    let srv = SRV { priority: 0, weight: 0, port, target: names.host.clone() };
    let mut records = vec![
        record(&names.service, OTHER_TTL_SECS, RData::PTR(PTR(names.instance.clone()))),
        record(&names.types, OTHER_TTL_SECS, RData::PTR(PTR(names.service.clone()))),
        record(&names.instance, HOST_TTL_SECS, RData::SRV(srv)).with_cache_flush(true),
        record(&names.instance, OTHER_TTL_SECS, RData::TXT(txt.clone())).with_cache_flush(true),
    ];
    records.extend(addresses.map(|address| {
        ip_addr_to_resource_record(&names.host, address, HOST_TTL_SECS).with_cache_flush(true)
    }));
    records
}

/// A label with a suffix, shortened so that it stays a label.
pub(super) fn suffixed(label: &str, suffix: &str) -> String {
    let mut end = label.len().min(LABEL_BYTES_MAX - suffix.len());
    while !label.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &label[..end])
}

/// The checks that starting a responder makes once, so that later renaming cannot fail.
pub(super) fn check(service: &Service) -> io::Result<()> {
    Names::new(&service.service_type, &service.instance, &service.host)?;
    Names::new(&service.service_type, &service.instance, &service.host_alternative)?;
    txt_data(&service.txt)?;
    Ok(())
}

fn name(text: &str) -> io::Result<Name<'static>> {
    let name = Name::new(text).map_err(|_| invalid(&format!("{text:?} is not a DNS name")))?;
    Ok(name.into_owned())
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
