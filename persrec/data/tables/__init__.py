"""From files of a table to prepared data: reading, checking, filtering and counting, in bounded memory."""
