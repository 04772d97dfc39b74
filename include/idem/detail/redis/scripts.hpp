// The rules of protocol.hpp once more, in Lua, for a server that makes them atomic. docs/redis-format.md has the bytes
// of a record, and what each argument is for; a random test holds the scripts equal to the rules.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/sha1.hpp>

#include <initializer_list>
#include <string>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// A text that the server keeps, and the name by which it's called.
struct Script {
  std::string text;
  char sha[40];

  Script(std::initializer_list<std::string_view> pieces) {
    for (const std::string_view piece : pieces) text += piece;
    sha1_hex(text, sha);
  }
  std::string_view name() const noexcept { return {sha, sizeof sha}; }
};

// Every script gets one key, and as its first argument the time in microseconds, or nothing where the server's own
// clock judges. It answers an array: the number of an idem::Answer, then the record or as much of it as the answer
// needs. What can fail comes before the one write, which is the last statement. Text of a record is never part of a
// command.
namespace script_pieces {

// From Redis 7 on: the outcome of a run is recorded even at maxmemory. Older servers know no such line.
inline constexpr std::string_view allow_oom = "#!lua flags=allow-oom\n";

inline constexpr std::string_view read = R"(
local v=redis.call('GET',KEYS[1])
)";

inline constexpr std::string_view clock = R"(
local time=redis.call('TIME')
local floor=time[1]*1000000+time[2]
local now=tonumber(ARGV[1]) or floor
)";

inline constexpr std::string_view constants = R"(
local NEVER='\255\255\255\255\255\255\255\127'
)";

// Says corrupt (12), and why, of what isn't a record of this format. Nothing is written over it.
inline constexpr std::string_view check = R"(
local format,state,flags=string.byte(v,4,6)
if string.sub(v,1,3)~='IDR' then return {12,2} end
if format~=1 then return {12,1} end
if #v<116 then return {12,3} end
if state<1 or state>3 or flags>3 then return {12,4} end
)";

// Whoever waits on this record has said so in it.
inline constexpr std::string_view wake = R"(
if string.byte(v,8)==1 then
 redis.pcall('PUBLISH',string.sub(KEYS[1],1,-65)..'wake:'..string.sub(KEYS[1],-64),'')
end
)";

// protocol::next_epoch, exact in two halves: from the previous one in lo and hi to its bytes in `epoch`. The floor is
// the server's clock, whoever judges.
inline constexpr std::string_view next_epoch = R"(
if lo==4294967295 and hi==4294967295 then return {11} end
lo=lo+1
if lo==4294967296 then lo,hi=0,hi+1 end
local top=math.floor(floor/4294967296)
if hi>top or hi==top and lo>floor-top*4294967296 then epoch=struct.pack('<I4I4',lo,hi) end
)";

// 2: the first 28 bytes of a new record; 3: its bytes from the fingerprint on; 4: the lease; 5: "1" takes over; 6: the
// epoch has to be above; 7, 8: ttl of what is completed at once, and what
// Redis is told of it, in milliseconds.
inline constexpr std::string_view claim = R"(
local head,tail=ARGV[2],ARGV[3]
local lo,hi=0,0
local stamp=struct.pack('<i8',now)
local started=stamp
if v then
)";
inline constexpr std::string_view claim_known = R"(
 local state,flags,_,_,attempt,token,l,h,_,_,lease,expires,print=struct.unpack('<BBBBI4c16I4I4i8i8i8i8c32',v,5)
 lo,hi=l,h
 if state==1 or expires>now then
  if token==string.sub(head,13,28) and (state==1 and flags%2==0 or state==2 and string.byte(head,5)==2) then
   return '\1'..v
  end
  local other=flags>=2 and string.byte(head,6)>=2 and print~=string.sub(tail,1,32)
  if other then return '\6'..string.sub(v,1,116) end
  if state~=1 then
   if #v>4096 then return {state+2,v} end
   return (state==2 and '\4' or '\5')..v
  end
  if flags%2==0 and lease>now then return '\2'..v end
  if ARGV[5]=='' then return '\3'..v end
  started=string.sub(v,37,44)
  if attempt<4294967295 then attempt=attempt+1 end
  if flags>=2 then
   head=string.sub(head,1,5)..'\2'..string.sub(head,7)
   tail=print..string.sub(tail,33)
  end
  head=string.sub(head,1,8)..struct.pack('<I4',attempt)..string.sub(head,13)
  tail=string.sub(tail,1,32)..string.sub(v,101,108)..string.sub(tail,41,48)..string.sub(v,117)
)";
// Where a long of the server's has 32 bits no time survives being written, and every outcome would be taken for
// expired: nothing is claimed there.
inline constexpr std::string_view claim_write = R"(
 end
end
if struct.unpack('<i8',stamp)~=now then return {11,1} end
local epoch=floor==now and stamp or struct.pack('<i8',floor)
if v or ARGV[6]~='' then
 if ARGV[6]~='' then
  local a,b=struct.unpack('<I4I4',ARGV[6])
  if b>hi or b==hi and a>lo then lo,hi=a,b end
 end
)";
inline constexpr std::string_view claim_end = R"(
end
if string.byte(head,5)==2 then
 if ARGV[7]~='' then
  v=head..epoch..started..stamp..NEVER..struct.pack('<i8',now+ARGV[7])..tail
  redis.call('SET',KEYS[1],v,'PX',ARGV[8])
 else
  v=head..epoch..started..stamp..NEVER..NEVER..tail
  redis.call('SET',KEYS[1],v)
 end
else
 local lease=NEVER
 if ARGV[4]~='' then lease=struct.pack('<i8',now+ARGV[4]) end
 v=head..epoch..started..'\0\0\0\0\0\0\0\0'..lease..NEVER..tail
 redis.call('SET',KEYS[1],v)
end
return '\1'..v
)";

// 2: the owner's token and epoch, or the token alone; 3: the lease.
inline constexpr std::string_view renew = R"(
if not v then return {9} end
)";
inline constexpr std::string_view renew_end = R"(
if string.sub(v,13,36)~=ARGV[2] or state~=1 or flags%2==1 or struct.unpack('<i8',v,53)<=now then
 return {9,string.sub(v,1,116)}
end
local lease=NEVER
if ARGV[3]~='' then lease=struct.pack('<i8',now+ARGV[3]) end
redis.call('SETRANGE',KEYS[1],52,lease)
return {8,string.sub(v,1,52)..lease..string.sub(v,61,116)}
)";

// 2: token and epoch; 3, 4: state and payload kind, a byte each; 5: ttl; 6: the payload's length and checksum; 7: the
// payload; 8: the ttl in milliseconds.
inline constexpr std::string_view finish = R"(
if not v then return {9} end
)";
inline constexpr std::string_view finish_judge = R"(
if string.sub(v,13,36)~=ARGV[2] then return {9,string.sub(v,1,116)} end
if state~=1 then return {state==string.byte(ARGV[3]) and 8 or 9,string.sub(v,1,116)} end
)";
inline constexpr std::string_view finish_end = R"(
local expires=NEVER
if ARGV[5]~='' then expires=struct.pack('<i8',now+ARGV[5]) end
local n='IDR\1'..ARGV[3]..string.char(flags-flags%2)..ARGV[4]..'\0'..string.sub(v,9,44)..struct.pack('<i8',now)
 ..NEVER..expires..string.sub(v,69,108)..ARGV[6]..string.sub(v,117)..ARGV[7]
if ARGV[5]~='' then redis.call('SET',KEYS[1],n,'PX',ARGV[8]) else redis.call('SET',KEYS[1],n) end
return '\8'..string.sub(n,1,116)
)";

// 2: token and epoch, or the token alone; 3: "1" releases, else it's abandoned.
inline constexpr std::string_view give_up = R"(
if not v then return {8} end
)";
inline constexpr std::string_view give_up_end = R"(
if state~=1 and struct.unpack('<i8',v,61)<=now then return {8} end
if string.sub(v,13,12+#ARGV[2])~=ARGV[2] or state~=1 then return {9,string.sub(v,1,116)} end
local erases=ARGV[3]=='1' and struct.unpack('<I4',v,9)<=1
if flags%2==1 and not erases then return {8,v} end
)";
inline constexpr std::string_view give_up_write = R"(
if erases then
 redis.call('DEL',KEYS[1])
 return {8,v}
end
redis.call('SETRANGE',KEYS[1],5,string.char(flags+1))
return {8,string.sub(v,1,5)..string.char(flags+1)..string.sub(v,7,116)}
)";

// 2: the epoch of the doubt that was looked into, or nothing; 3: the resolver's token; 4, 5: state and payload kind; 6:
// ttl; 7: the payload's length and checksum; 8: the payload; 9: the ttl in milliseconds.
inline constexpr std::string_view resolve = R"(
if not v then return {7} end
)";
inline constexpr std::string_view resolve_judge = R"(
local state,flags,_,_,_,_,lo,hi,_,_,lease,expires=struct.unpack('<BBBBI4c16I4I4i8i8i8i8',v,5)
if state~=1 and expires<=now then return {7} end
if state~=1 then return {9,string.sub(v,1,116)} end
if flags%2==0 and lease>now then return {10,v} end
if ARGV[2]~='' and ARGV[2]~=string.sub(v,29,36) then return {9,v} end
local stamp=struct.pack('<i8',now)
local epoch=struct.pack('<i8',floor)
)";
inline constexpr std::string_view resolve_end = R"(
local until_=NEVER
if ARGV[6]~='' then until_=struct.pack('<i8',now+ARGV[6]) end
local n='IDR\1'..ARGV[4]..string.char(flags-flags%2)..ARGV[5]..'\0'..string.sub(v,9,12)..ARGV[3]..epoch
 ..string.sub(v,37,44)..stamp..NEVER..until_..string.sub(v,69,108)..ARGV[7]..string.sub(v,117)..ARGV[8]
if ARGV[6]~='' then redis.call('SET',KEYS[1],n,'PX',ARGV[9]) else redis.call('SET',KEYS[1],n) end
return '\8'..string.sub(n,1,116)
)";

inline constexpr std::string_view find = R"(
if not v then return {7} end
)";
inline constexpr std::string_view find_end = R"(
local state,flags,_,_,_,_,_,_,_,_,lease,expires=struct.unpack('<BBBBI4c16I4I4i8i8i8i8',v,5)
if state~=1 then
 if expires<=now then return {7} end
 return {state+2,v}
end
return {flags%2==0 and lease>now and 2 or 3,v}
)";

inline constexpr std::string_view erase_end = R"(
local state,flags,_,_,_,_,_,_,_,_,lease,expires=struct.unpack('<BBBBI4c16I4I4i8i8i8i8',v,5)
if state==1 and flags%2==0 and lease>now then return {10,v} end
)";
inline constexpr std::string_view erase_write = R"(
redis.call('DEL',KEYS[1])
return {state~=1 and expires<=now and 7 or 8,string.sub(v,1,116)}
)";

// 2: from which age on a doubt is removed, or nothing. Answers 0 where it stays, 1 where it had expired, 2 where it was
// in doubt.
inline constexpr std::string_view purge = R"(
local v=redis.call('GETRANGE',KEYS[1],0,115)
if #v<116 or string.sub(v,1,4)~='IDR\1' then return {0} end
local state,flags,_,_,_,_,_,_,started,_,lease,expires=struct.unpack('<BBBBI4c16I4I4i8i8i8i8',v,5)
local what=0
if state<1 or state>3 or flags>3 then return {0} end
if state~=1 then
 if expires<=now then what=1 end
elseif (flags%2==1 or lease<=now) and ARGV[2]~='' and started+ARGV[2]<=now then
 what=2
end
if what==0 then return {0} end
)";
inline constexpr std::string_view purge_end = R"(
redis.call('DEL',KEYS[1])
return {what}
)";

// 2: an epoch. Says whether somebody runs with it, and then for how many microseconds the lease still holds (-1: for
// ever); the record remembers that somebody waits.
inline constexpr std::string_view watch = R"(
local v=redis.call('GETRANGE',KEYS[1],0,115)
if #v<116 or string.sub(v,1,4)~='IDR\1' or string.sub(v,29,36)~=ARGV[2] then return {0} end
local state,flags=string.byte(v,5,6)
local lease=string.sub(v,53,60)
local left=-1
if lease~=NEVER then left=struct.unpack('<i8',lease)-now end
if state~=1 or flags%2==1 or lease~=NEVER and left<=0 then return {0} end
if string.byte(v,8)==0 then redis.call('SETRANGE',KEYS[1],7,'\1') end
return {1,left}
)";

}  // namespace script_pieces

/// All scripts. The outcome of a run finds room at maxmemory where the server `has_flags` (Redis 7).
struct Scripts {
  explicit Scripts(bool has_flags) : Scripts(has_flags ? script_pieces::allow_oom : std::string_view{}) {}

  Script claim;
  Script renew;
  Script finish;
  Script give_up;
  Script resolve;
  Script find;
  Script erase;
  Script purge;
  Script watch;

 private:
  explicit Scripts(std::string_view first)
      : claim{script_pieces::read,        script_pieces::clock,      script_pieces::constants,
              script_pieces::claim,       script_pieces::check,      script_pieces::claim_known,
              script_pieces::wake,        script_pieces::claim_write, script_pieces::next_epoch,
              script_pieces::claim_end},
        renew{first, script_pieces::read, script_pieces::renew, script_pieces::check, script_pieces::clock,
              script_pieces::constants, script_pieces::renew_end},
        finish{first, script_pieces::read, script_pieces::finish, script_pieces::check, script_pieces::finish_judge,
               script_pieces::clock, script_pieces::constants, script_pieces::wake, script_pieces::finish_end},
        give_up{first, script_pieces::read, script_pieces::give_up, script_pieces::check, script_pieces::clock,
                script_pieces::give_up_end, script_pieces::wake, script_pieces::give_up_write},
        resolve{first, script_pieces::read, script_pieces::resolve, script_pieces::check, script_pieces::clock,
                script_pieces::constants, script_pieces::resolve_judge, script_pieces::next_epoch, script_pieces::wake,
                script_pieces::resolve_end},
        find{script_pieces::read, script_pieces::find, script_pieces::check, script_pieces::clock,
             script_pieces::find_end},
        erase{first, script_pieces::read, script_pieces::find, script_pieces::check, script_pieces::clock,
              script_pieces::erase_end, script_pieces::wake, script_pieces::erase_write},
        purge{first, script_pieces::clock, script_pieces::purge, script_pieces::wake, script_pieces::purge_end},
        watch{first, script_pieces::clock, script_pieces::constants, script_pieces::watch} {}
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
