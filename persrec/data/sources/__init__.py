"""Publishers' data sets, one file a publisher: where the files lie, which columns they have, what the publisher's own rules drop."""
