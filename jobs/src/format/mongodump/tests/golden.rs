//! Archives written byte by byte, as `mongodump` lays them out, with checksums from another implementation.

/// From a server 8.0, by a current `mongodump`: a collection in two blocks, a view, a time series, the oplog.
pub(super) const OF_TODAY: &[u8] = b"m\xe2\x99\x81\
    g\0\0\0\x10concurrent_collections\0\x04\0\0\0\x02version\0\x04\0\0\x000.1\0\x02server_version\0\x06\0\0\x008.0.4\0\x02tool_version\0\x09\0\0\x00100.12.0\0\0\
    \x11\x01\0\0\x02db\0\x05\0\0\0shop\0\x02collection\0\x07\0\0\0orders\0\x02metadata\0\xbb\0\0\0{\"options\":{},\"indexes\":[{\"v\":{\"$numberInt\":\"2\"},\"key\":{\"_id\":{\"$numberInt\":\"1\"}},\"name\":\"_id_\"}],\"uuid\":\"a104ede478cc4819a7bb68203c32d143\",\"collectionName\":\"orders\",\"type\":\"collection\"}\0\x10size\0\0\0\0\0\x02type\0\x0b\0\0\0collection\0\0\
    \xb3\0\0\0\x02db\0\x05\0\0\0shop\0\x02collection\0\x07\0\0\0recent\0\x02metadata\0c\0\0\0{\"options\":{\"viewOn\":\"orders\",\"pipeline\":[]},\"indexes\":[],\"collectionName\":\"recent\",\"type\":\"view\"}\0\x10size\0\0\0\0\0\x02type\0\x05\0\0\0view\0\0\
    \xba\0\0\0\x02db\0\x05\0\0\0shop\0\x02collection\0\x05\0\0\0load\0\x02metadata\0f\0\0\0{\"options\":{\"timeseries\":{\"timeField\":\"t\"}},\"indexes\":[],\"collectionName\":\"load\",\"type\":\"timeseries\"}\0\x10size\0\0\0\0\0\x02type\0\x0b\0\0\0timeseries\0\0\
    H\0\0\0\x02db\0\x01\0\0\0\0\x02collection\0\x06\0\0\0oplog\0\x02metadata\0\x01\0\0\0\0\x10size\0\0\0\0\0\x02type\0\x01\0\0\0\0\0\
    \xff\xff\xff\xff\
    <\0\0\0\x02db\0\x05\0\0\0shop\0\x02collection\0\x07\0\0\0orders\0\x08EOF\0\0\x12CRC\0\0\0\0\0\0\0\0\0\0\
    !\0\0\0\x10_id\0\x01\0\0\0\x02of\0\x0b\0\0\0a \"b\" $c.d\0\0\
    \xff\xff\xff\xff\
    I\0\0\0\x02db\0\x05\0\0\0shop\0\x02collection\0\x14\0\0\0system.buckets.load\0\x08EOF\0\0\x12CRC\0\0\0\0\0\0\0\0\0\0\
    \x15\0\0\0\x10_id\0\x07\0\0\0\x10v\0\x01\0\0\0\0\
    \xff\xff\xff\xff\
    <\0\0\0\x02db\0\x05\0\0\0shop\0\x02collection\0\x07\0\0\0orders\0\x08EOF\0\0\x12CRC\0\0\0\0\0\0\0\0\0\0\
    !\0\0\0\x10_id\0\x02\0\0\0\x02of\0\x0b\0\0\0caf\xc3\xa9 \xe2\x98\x95\x0a\0\0\
    \xff\xff\xff\xff\
    <\0\0\0\x02db\0\x05\0\0\0shop\0\x02collection\0\x07\0\0\0recent\0\x08EOF\0\0\x12CRC\0\0\0\0\0\0\0\0\0\0\
    \xff\xff\xff\xff\
    <\0\0\0\x02db\0\x05\0\0\0shop\0\x02collection\0\x07\0\0\0recent\0\x08EOF\0\x01\x12CRC\0\0\0\0\0\0\0\0\0\0\
    \xff\xff\xff\xff\
    <\0\0\0\x02db\0\x05\0\0\0shop\0\x02collection\0\x07\0\0\0orders\0\x08EOF\0\x01\x12CRC\0r*\xcbw\x9fs(\x94\0\
    \xff\xff\xff\xff\
    7\0\0\0\x02db\0\x01\0\0\0\0\x02collection\0\x06\0\0\0oplog\0\x08EOF\0\0\x12CRC\0\0\0\0\0\0\0\0\0\0\
    \xff\xff\xff\xff\
    7\0\0\0\x02db\0\x01\0\0\0\0\x02collection\0\x06\0\0\0oplog\0\x08EOF\0\x01\x12CRC\0\0\0\0\0\0\0\0\0\0\
    \xff\xff\xff\xff\
    I\0\0\0\x02db\0\x05\0\0\0shop\0\x02collection\0\x14\0\0\0system.buckets.load\0\x08EOF\0\x01\x12CRC\0\xf9\xc4>\x84\x12\xe4Yg\0\
    \xff\xff\xff\xff";

/// From a server 3.4, when namespaces had no `type`.
pub(super) const OF_2017: &[u8] = b"m\xe2\x99\x81\
    e\0\0\0\x10concurrent_collections\0\x04\0\0\0\x02version\0\x04\0\0\x000.1\0\x02server_version\0\x06\0\0\x003.4.3\0\x02tool_version\0\x07\0\0\0r3.4.3\0\0\
    Z\0\0\0\x02db\0\x05\0\0\0test\0\x02collection\0\x04\0\0\0bar\0\x02metadata\0\x1c\0\0\0{\"options\":{},\"indexes\":[]}\0\x10size\0\0\0\0\0\0\
    \xff\xff\xff\xff\
    9\0\0\0\x02db\0\x05\0\0\0test\0\x02collection\0\x04\0\0\0bar\0\x08EOF\0\0\x12CRC\0\0\0\0\0\0\0\0\0\0\
    \x1b\0\0\0\x10_id\0\x01\0\0\0\x02foo\0\x04\0\0\0bar\0\0\
    \xff\xff\xff\xff\
    9\0\0\0\x02db\0\x05\0\0\0test\0\x02collection\0\x04\0\0\0bar\0\x08EOF\0\x01\x12CRC\0\x8f\x8ax\xdb\xb7\xce(Z\0\
    \xff\xff\xff\xff";
