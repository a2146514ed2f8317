#!/usr/bin/env perl
# Writes tests/floor/*.txt: the functions that a library's headers declare as exported.
#
#   floor.pl UV_EXTERN   FILE.h ...   >tests/floor/libuv-1.44.0.txt
#   floor.pl CURL_EXTERN FILE.h ...   >tests/floor/libcurl-7.83.1.txt
#
# The headers come with the crates libuv-sys2 1.44.0 (libuv/include) and curl-sys 0.4.56+curl-7.83.1 (curl/include). No
# release of curl-sys carries libcurl 7.84.0; 7.83.1 is the nearest older one, so that the list is at most too short.
use strict;
use warnings;

my ($mark, @headers) = @ARGV;
my %names;
for my $header (@headers) {
  next if $header =~ m{/uv/win|/win\.h$};
  open my $in, '<', $header or die "$header: $!\n";
  my $text = do { local $/; <$in> };
  $text =~ s{/\*.*?\*/}{}gs;
  $text =~ s{^\s*#.*$}{}gm;
  $names{$1} = 1 while $text =~ /\b$mark\b[^;({]*?\b(\w+)\s*\(/g;
}
print "# Written by tools/floor.pl, which says from what.\n";
print "$_\n" for sort keys %names;
